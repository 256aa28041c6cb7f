"""The driver of any agent that speaks the Agent Client Protocol: gemini, opencode, our own echo, and the user's.

Nothing here asks which agent it is: what differs is configuration. What an agent can do is known when it has started:
until then `capabilities` names what the protocol can carry, from then on what the agent has said of itself (images and
resuming in its handshake, the choice of a model with its first session). A live agent that cannot refuses by name.
"""

from collections.abc import Hashable, Mapping
from pathlib import Path
from types import MappingProxyType

from msgspec.structs import replace

from actors.driver import Capabilities, FlagValue, Link, Send
from actors.errors import Code, Refusal
from actors.messages import Options
from actors.process import Launch
from clinvoker.backends.acp_link import About, AcpLink
from clinvoker.backends.environment import TEMPORARY, agent_environment
from clinvoker.config.settings import BackendSettings

SYSTEM_PROMPT = ".system-prompt.md"


class AcpDriver:
    """One ACP agent. Its `command` is complete: the flag or word that makes it speak the protocol is part of it."""

    def __init__(self, name: str, settings: BackendSettings, environ: Mapping[str, str]) -> None:
        self._name = name
        self._settings = settings
        self._environ = environ
        self._capabilities = Capabilities(
            deltas=True,
            resume=True,
            images=True,
            schema=False,
            system_prompt=bool(settings.system_prompt_env),
            max_turns=False,
            max_tokens=False,
            model=True,
            approval_modes=("default", "auto", "none", "always"),
            sandbox_modes=("default", "full"),
            extra=settings.allowed_extra or (),
            client_tools=True,
        )

    @property
    def name(self) -> str:
        """The backend's name in the configuration."""
        return self._name

    @property
    def program(self) -> str:
        """The executable as configured."""
        return self._settings.command[0]

    @property
    def capabilities(self) -> Capabilities:
        """What the agent can do, as far as it is known."""
        return self._capabilities

    @property
    def flag_values(self) -> Mapping[str, FlagValue]:
        """Of the flags that the user allows nothing is known."""
        return MappingProxyType({})

    @property
    def shared(self) -> bool:
        """One process holds many sessions, each with a directory of its own."""
        return True

    @property
    def version_argv(self) -> tuple[str, ...]:
        """The command that prints the agent's version; `--version` beats the protocol in every agent seen."""
        return (*self._settings.command, "--version")

    def records(self, conversation: str) -> tuple[str, ...]:  # noqa: ARG002
        """Where an agent keeps its sessions, the protocol does not say."""
        return ()

    def fixed_at_spawn(self, options: Options, resume: str | None) -> Hashable:  # noqa: ARG002 - a session is resumed live
        """Flags, and the system prompt, for the protocol has none."""
        return options.extra, self._system_prompt(options)

    def launch(self, options: Options, scratch: str, resume: str | None) -> Launch:  # noqa: ARG002
        """Start in the scratch directory, for the sessions' own directories may go before the process does."""
        env = agent_environment(self._settings, self._environ, scratch)
        (Path(scratch) / TEMPORARY).mkdir(exist_ok=True)
        if system_prompt := self._system_prompt(options):
            if not self._settings.system_prompt_env:
                message = f"{self._name} takes no system prompt"
                raise Refusal(Code.UNSUPPORTED, message, param="system_prompt")
            file = Path(scratch) / SYSTEM_PROMPT
            file.write_text(system_prompt, encoding="utf-8")
            env[self._settings.system_prompt_env] = str(file)
        return Launch((*self._settings.command, *self._settings.extra_flags, *options.extra), env, scratch)

    def link(self, send: Send, launch: Launch) -> Link:  # noqa: ARG002
        """Make a link over a process just launched."""
        return AcpLink(send, self._settings.model, self._learn)

    def _learn(self, about: About) -> None:
        """Take what a live agent said of itself. A model that the user configured is his word that it can be chosen."""
        self._capabilities = replace(
            self._capabilities,
            images=about.images,
            resume=about.resume,
            client_tools=about.tools,
            model=about.model is not False or bool(self._settings.model),
        )

    def _system_prompt(self, options: Options) -> str:
        return options.system_prompt or self._settings.system_prompt
