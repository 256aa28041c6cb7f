"""The claude backend: Claude Code in its persistent machine mode (observed with 2.1.330).

One process holds one conversation, named when it is launched. What a request can change on a running process (model,
system prompt, schema, permission mode) is the link's; what only a launch can set is here.
"""

from collections.abc import Hashable, Mapping
from glob import escape
from typing import Final
from uuid import uuid4

from actors.driver import Capabilities, FlagValue, Link, Send
from actors.errors import Code, Refusal
from actors.messages import Options
from actors.process import Launch
from clinvoker.backends.claude_link import ClaudeLink
from clinvoker.backends.environment import agent_environment
from clinvoker.config.settings import BackendSettings
from clinvoker.mcp.server import NAME

PROTOCOL: Final = (
    "-p",
    "--input-format=stream-json",
    "--output-format=stream-json",
    "--verbose",
    "--include-partial-messages",
    "--permission-prompt-tool=stdio",
)

NOT_FOR_API: Final = (
    # These wait for a person at the terminal, ...
    *("AskUserQuestion", "EnterPlanMode", "ExitPlanMode"),
    # ... and these start turns that nobody asked for.
    *("CronCreate", "CronDelete", "CronList", "ScheduleWakeup", "Monitor"),
)
"""Tools of the agent that make no sense behind an API."""

READING_TOOLS: Final = ("Read", "Glob", "Grep")
"""All that is left to an agent in a read-only sandbox; claude has no sandbox of its own."""

ENVIRONMENT: Final = {
    "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
    "DISABLE_TELEMETRY": "1",
    "DISABLE_ERROR_REPORTING": "1",
    "DISABLE_AUTOUPDATER": "1",
    # The CLI's own ten retries take minutes; whoever called us retries too.
    "CLAUDE_CODE_MAX_RETRIES": "2",
    # A prompt is text: "@/etc/passwd" in it would have the CLI read that file, unasked, in every approval mode.
    "CLAUDE_CODE_DISABLE_FILE_MENTIONS": "1",
    # The end of a background task would start a turn that nobody asked for.
    "CLAUDE_CODE_DISABLE_BACKGROUND_TASKS": "1",
    "CLAUDE_CODE_DISABLE_CRON": "1",
    # A refusal is the caller's to know; the CLI would answer it with a prompt of its own.
    "CLAUDE_CODE_DISABLE_REFUSAL_RETRY": "1",
}
"""Defaults: the user's own environment and configuration may set them otherwise."""

NESTING: Final = ("CLAUDE_CODE_ENTRYPOINT", "CLAUDE_CODE_SSE_PORT", "CLAUDE_CODE_SESSION_ID")
"""Marks of a Claude Code that the daemon was started in: the agent is not part of that session."""

EXTRA: Final = {
    "--effort": FlagValue("low, medium, high, xhigh or max", "low|medium|high|xhigh|max"),
    "--fallback-model": FlagValue(
        "a model, or several with commas between", r"[\w.:/@\[\]-]+(,[\w.:/@\[\]-]+)*"
    ),
    "--max-budget-usd": FlagValue("a positive number", r"(?=.*[1-9])[0-9]{1,9}(\.[0-9]{1,9})?"),
    "--autocompact": FlagValue(
        "auto, or a number of tokens from 100k on", "auto|[1-9][0-9]{2,3}k|[1-9][0-9]{5,6}"
    ),
}
"""What a request may pass (2.1.330): nothing that widens what the agent may read, write or run."""

TOOLS: Final = f"mcp__{NAME}"
"""All tools of our own server."""

SESSION_FLAG: Final = "--session-id="
RESUME_FLAG: Final = "--resume="


class ClaudeDriver:
    """Claude Code as a backend."""

    shared = False
    flag_values = EXTRA

    def __init__(self, name: str, settings: BackendSettings, environ: Mapping[str, str]) -> None:
        self.name = name
        self._settings = settings
        self._environ = environ
        self.program = settings.command[0]
        self.version_argv = (*settings.command, "--version")
        self.capabilities = Capabilities(
            deltas=True,
            resume=True,
            images=True,
            schema=True,
            system_prompt=True,
            max_turns=True,
            max_tokens=True,
            model=True,
            approval_modes=("default", "auto", "none", "always"),
            sandbox_modes=("default", "read-only", "full"),
            extra=tuple(EXTRA) if settings.allowed_extra is None else settings.allowed_extra,
            client_tools=True,
        )

    def records(self, conversation: str) -> tuple[str, ...]:
        """The transcript, in a folder named for the working directory (2.1.330)."""
        env = agent_environment(self._settings, self._environ, "")
        home = env.get("CLAUDE_CONFIG_DIR") or f"{env.get('HOME', '')}/.claude"
        return (f"{escape(home)}/projects/*/{escape(conversation)}.jsonl",)

    def fixed_at_spawn(self, options: Options, resume: str | None) -> Hashable:
        """Everything that is a flag, a variable or the directory of the process."""
        return (
            options.workdir,
            options.sandbox_mode == "read-only",
            options.max_turns,
            options.max_tokens,
            options.extra,
            options.ephemeral,
            resume,
        )

    def launch(self, options: Options, scratch: str, resume: str | None) -> Launch:
        """Return how to start a process for one conversation, new or resumed."""
        if options.sandbox_mode not in self.capabilities.sandbox_modes:
            message = (
                f"claude has no sandbox {options.sandbox_mode!r}: it has no sandbox but its choice of tools"
            )
            raise Refusal(Code.UNSUPPORTED, message, param="sandbox_mode")
        argv = [*self._settings.command, *PROTOCOL, f"--disallowedTools={','.join(NOT_FOR_API)}"]
        argv.append(f"{RESUME_FLAG}{resume}" if resume else f"{SESSION_FLAG}{uuid4()}")
        if options.sandbox_mode == "read-only":
            # The user's MCP servers may write: none of them.
            argv += [f"--tools={','.join(READING_TOOLS)}", "--strict-mcp-config"]
        if options.max_turns is not None:
            argv.append(f"--max-turns={options.max_turns}")  # per turn of ours, not per process
        if options.ephemeral:
            argv.append("--no-session-persistence")
        # The client's own need nobody's leave: it runs them itself, or does not.
        argv += [f"--allowedTools={TOOLS}", *self._settings.extra_flags, *options.extra]
        return Launch(tuple(argv), self._environment(options, scratch), options.workdir or scratch)

    def link(self, send: Send, launch: Launch) -> Link:
        """Return a link over a process started by `launch`, which named its conversation."""
        for argument in launch.argv:
            for flag in (SESSION_FLAG, RESUME_FLAG):
                if argument.startswith(flag):
                    return ClaudeLink(send, argument.removeprefix(flag), resumed=flag == RESUME_FLAG)
        raise ValueError("the launch names no conversation: it is not this driver's")

    def _environment(self, options: Options, scratch: str) -> dict[str, str]:
        env = {**ENVIRONMENT, **agent_environment(self._settings, self._environ, scratch)}
        for name in NESTING:
            if name not in self._settings.env:
                env.pop(name, None)
        if options.max_tokens is not None:
            env["CLAUDE_CODE_MAX_OUTPUT_TOKENS"] = str(options.max_tokens)
        return env
