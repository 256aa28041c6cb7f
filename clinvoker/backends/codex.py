"""The codex backend: `codex app-server`, one process for many conversations (clis.md 4; codex 0.169.0)."""

import shutil
from collections.abc import Hashable, Iterator, Mapping
from glob import escape
from pathlib import Path

from actors.driver import Capabilities, Send
from actors.launch import Launch
from actors.messages import Options
from clinvoker.backends.codex_link import CodexLink
from clinvoker.backends.codex_options import CONFIG_FLAGS, process_flags
from clinvoker.backends.environment import agent_environment
from clinvoker.config.settings import BackendSettings

# Settings, not `--disable`: an unknown setting is passed over, an unknown feature ends codex with an error.
_QUIET = (
    *("-c", "analytics.enabled=false"),
    *("-c", "check_for_update_on_startup=false"),
    *("-c", "features.plugins=false"),  # a git clone in the background
    *("-c", "features.unbounded_connection_retries=false"),  # a refused connection is retried for ever
)

_KEYS = ("CODEX_API_KEY", "OPENAI_API_KEY", "CODEX_ACCESS_TOKEN")

_SHIM = "codex.js"


class CodexDriver:
    """A configured codex. `environ` is the daemon's own environment, of which the agent gets what the settings let through."""

    shared = True
    flag_values = CONFIG_FLAGS
    version_argv: tuple[str, ...]

    def __init__(self, name: str, settings: BackendSettings, environ: Mapping[str, str]) -> None:
        self.name = name
        self.program = settings.command[0]
        self.version_argv = (*settings.command, "--version")
        self.capabilities = Capabilities(
            deltas=True,
            resume=True,
            images=True,
            schema=True,
            system_prompt=True,
            max_turns=False,
            max_tokens=False,
            model=True,
            approval_modes=("default", "auto", "none", "always"),
            sandbox_modes=("default", "read-only", "workspace", "full"),
            extra=tuple(CONFIG_FLAGS) if settings.allowed_extra is None else settings.allowed_extra,
            client_tools=True,
        )
        self._settings = settings
        self._environ = environ

    def records(self, conversation: str) -> tuple[str, ...]:
        """The rollout, in a folder named for the day (0.169.0)."""
        env = agent_environment(self._settings, self._environ, "")
        home = env.get("CODEX_HOME") or f"{env.get('HOME', '')}/.codex"
        return (f"{escape(home)}/sessions/*/*/*/rollout-*-{escape(conversation)}.jsonl",)

    def fixed_at_spawn(self, options: Options, resume: str | None) -> Hashable:  # noqa: ARG002 - any process resumes
        """Nothing but flags that the user allowed on his own: a thread takes all else."""
        return process_flags(options.extra)

    def launch(self, options: Options, scratch: str, resume: str | None) -> Launch:  # noqa: ARG002
        """Start it in its scratch directory: each thread has a directory of its own."""
        env = agent_environment(self._settings, self._environ, scratch)
        argv = (
            *_native(self._settings.command, env.get("PATH")),
            *("app-server", *_QUIET),
            *self._settings.extra_flags,
            *process_flags(options.extra),
        )
        return Launch(argv, env, scratch)

    def link(self, send: Send, launch: Launch) -> CodexLink:
        """A link over a process just started by `launch`."""
        return CodexLink(send, has_key=any(launch.env.get(name) for name in _KEYS))


def _native(command: tuple[str, ...], path: str | None) -> tuple[str, ...]:
    """Give the command with npm's node shim replaced by the program that it would start: 24 ms and 30 MB less."""
    if len(command) != 1 or (found := shutil.which(command[0], path=path)) is None:
        return command
    shim = Path(found).resolve()
    if shim.name != _SHIM:
        return command
    native = next(_candidates(shim.parent.parent), None)
    return command if native is None else (str(native),)


def _candidates(package: Path) -> Iterator[Path]:
    """Look where node would: the platform's package beside the shim's or within it, then the shim's own."""
    for directory in (package, *package.parents):
        yield from directory.glob("node_modules/@openai/codex-*/vendor/*/bin/codex")
    yield from package.glob("vendor/*/bin/codex")
