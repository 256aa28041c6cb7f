"""The port to an agent CLI: what a backend must know how to do, and nothing of how it is run.

A driver does no I/O of its own. It says how to launch its CLI, and makes a `Link`: a protocol state machine that is
fed lines of output and sends lines of input. The runner owns the process, the reading, the timeouts and the death.
"""

from collections.abc import Awaitable, Callable, Hashable, Mapping
from typing import Any, Protocol

from msgspec import Struct

from actors.messages import ApprovalMode, Leave, Options, Permission, Prompt, SandboxMode, ToolAnswer
from actors.outbox import Outbox
from actors.process import Launch

Send = Callable[[bytes], Awaitable[None]]
"""Writes bytes to the agent's standard input, whole lines; raises `ProcessGone`."""

AskLeave = Callable[[Permission], Awaitable[Leave]]
"""Puts a permission to whoever decides in this turn (the mode, or the caller) and returns one of its `options`."""


CallTool = Callable[[str, Any, int], Awaitable[ToolAnswer]]
"""Has the client run one of its tools, `options.tools`, and waits for what it gives, for minutes if need be.

Called with its name, what it is given, and a number that is higher for a later call: tasks start in any order.
"""


class LinkClosed(Exception):  # noqa: N818 - the agent's side of the link is gone; whose fault, the runner knows
    """The agent's output ended while something was still expected of it."""


class ProtocolBroken(Exception):  # noqa: N818 - named for whose fault it is
    """The agent answered in a way its protocol does not allow; the message says how."""


class Capabilities(Struct, frozen=True):
    """What an agent can do. What it cannot is refused by name before anything starts."""

    deltas: bool
    """Text arrives token by token."""
    resume: bool
    """A conversation can be continued in a new process by its id."""
    images: bool
    schema: bool
    system_prompt: bool
    max_turns: bool
    max_tokens: bool
    model: bool
    approval_modes: tuple[ApprovalMode, ...]
    sandbox_modes: tuple[SandboxMode, ...]
    extra: tuple[str, ...]
    """Flags a request may pass in `extra`."""
    client_tools: bool
    """The agent can call tools that the client runs."""


class FlagValue(Struct, frozen=True):
    """The value that a flag takes: a wrong one may end the agent's process at its start."""

    form: str
    """In words, for who got it wrong."""
    pattern: str
    """A regular expression that the whole value matches."""


class Link(Protocol):
    """One live connection to an agent process."""

    def feed(self, line: bytes) -> None:
        """Take one line of the agent's output. Never waits, never raises on the agent's nonsense: counts it."""
        ...

    def closed(self) -> None:
        """The output ended: every wait inside this link raises `LinkClosed` from here on."""
        ...

    @property
    def unparsed(self) -> int:
        """Lines so far that were no message of the protocol."""
        ...

    async def handshake(self) -> None:
        """Bring the process to where it can hold conversations. Raises `Refusal`, `LinkClosed`, `ProtocolBroken`."""
        ...

    async def serve(self) -> None:
        """Do what is to be done beside the lines and the turns, as long as the process lives; may end at once."""
        ...

    async def open(self, options: Options, resume: str | None) -> str:
        """Open a conversation, or resume one by the agent's own id; returns that id (a stable key for `turn`).

        `options.workdir` is always a real directory here. Raises `Refusal` (`NOT_FOUND` for an unknown `resume`).
        """
        ...

    async def turn(
        self, conversation: str, prompt: Prompt, out: Outbox, ask: AskLeave, call: CallTool
    ) -> None:
        """Run one turn and return after its terminal event was put into `out`; `Start` is the first event.

        Calls of the client's tools go to `call`, side by side, and need no leave; it tells of them in `out` itself.

        Raises `LinkClosed` when the process ends first. When cancelled it just stops listening: the runner then
        calls `interrupt`.
        """
        ...

    async def interrupt(self, conversation: str) -> None:
        """End the turn in hand, tools included; returns when the agent has confirmed that it is idle again."""
        ...

    async def close(self, conversation: str) -> None:
        """Forget a conversation; the agent's own record stays unless it was ephemeral."""
        ...


class Driver(Protocol):
    """One backend: how to launch it, talk to it, and what it can do."""

    @property
    def name(self) -> str:
        """The backend's name in the configuration."""
        ...

    @property
    def program(self) -> str:
        """The executable as configured; looked up on the agent's own PATH."""
        ...

    @property
    def capabilities(self) -> Capabilities:
        """What this agent can do."""
        ...

    @property
    def flag_values(self) -> Mapping[str, FlagValue]:
        """Flags of `extra` that are taken as `flag=value` alone, whoever allowed them."""
        ...

    @property
    def shared(self) -> bool:
        """Whether one process holds many conversations at once."""
        ...

    @property
    def version_argv(self) -> tuple[str, ...]:
        """The command that prints the agent's version; empty when there is none."""
        ...

    def records(self, conversation: str) -> tuple[str, ...]:
        """Glob patterns of the files in which the agent itself keeps a conversation; empty if it is not known where."""
        ...

    def fixed_at_spawn(self, options: Options, resume: str | None) -> Hashable:
        """The part of these that only a new process can take: equal values may share a process or a spare."""
        ...

    def launch(self, options: Options, scratch: str, resume: str | None) -> Launch:
        """The command, environment and directory of a process for these options; `scratch` is private to it.

        `options.workdir` is empty when the process is to start in the scratch directory. `resume` is the conversation
        it is meant for, where only a launch can name one; `Link.open` is told it again. Raises `Refusal`.
        """
        ...

    def link(self, send: Send, launch: Launch) -> Link:
        """A link over a process just started by `launch`, which may have named its conversation."""
        ...
