"""The four backends that exist without a configuration file."""

import sys
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from .settings import BackendSettings

# An empty command of `echo` stands for this: our own agent, run by our own interpreter.
ECHO_COMMAND: Final = (sys.executable, "-m", "clinvoker.backends.echo")

BUILTIN: Final[Mapping[str, BackendSettings]] = MappingProxyType(
    {
        "claude": BackendSettings(
            title="Claude Code",
            protocol="claude",
            command=("claude",),
            models=("claude-*", "sonnet", "opus", "haiku"),
            env_passthrough=("ANTHROPIC_*", "CLAUDE_*"),
        ),
        "codex": BackendSettings(
            title="Codex",
            protocol="codex",
            command=("codex",),
            models=("gpt-*", "o3*", "o4*", "codex*"),
            env_passthrough=("OPENAI_*", "CODEX_*"),
        ),
        "gemini": BackendSettings(
            title="Gemini CLI",
            protocol="acp",
            command=("gemini", "--acp"),
            models=("gemini-*",),
            system_prompt_env="GEMINI_SYSTEM_MD",
            # Unasked, it starts itself a second time (0.3 s), asks for trust in the directory, or opens a browser.
            env={
                "GEMINI_CLI_NO_RELAUNCH": "true",
                "GEMINI_CLI_TRUST_WORKSPACE": "true",
                "NO_BROWSER": "1",
            },
            env_passthrough=("GEMINI_*", "GOOGLE_*"),
        ),
        "echo": BackendSettings(title="Echo", protocol="acp", command=()),
    }
)
