"""The vocabulary of a turn: what is asked of an agent, and everything that can happen while it answers.

`Options` and `Prompt` go in; `Event` values come out, in the order the agent gave them. A turn ends with exactly
one `Complete` or one `Failed`. The shapes of the events' contents are those of contract.md, section 2.
"""

from typing import Any, ClassVar, Literal

from msgspec import UNSET, Raw, Struct, UnsetType

from actors.errors import Code, Refusal

ApprovalMode = Literal["default", "auto", "none", "always"]
"""Who answers when the agent asks leave: its own policy (and a no to the rest), yes, no, or the caller."""

SandboxMode = Literal["default", "read-only", "workspace", "full"]


class Image(Struct, frozen=True):
    """A picture beside the prompt: `data` is base64 without line breaks."""

    media_type: str
    data: str


class Prompt(Struct, frozen=True):
    """What one turn asks."""

    text: str
    images: tuple[Image, ...] = ()
    schema: dict[str, Any] | None = None
    """A JSON Schema that the answer must satisfy."""


class Tool(Struct, frozen=True):
    """A tool that the client offers, and runs itself when the agent calls it."""

    name: str
    description: str
    schema: dict[str, Any]
    """A JSON Schema of what it takes."""
    freeform: bool = False
    """It takes a text: the agent gives it as `input` of an object."""


class ToolAnswer(Struct, frozen=True):
    """What the client's tool gave for the call of that id."""

    id: str
    output: str
    is_error: bool = False
    images: tuple[Image, ...] = ()


class Options(Struct, frozen=True):
    """How a conversation is to be held. Empty means the agent's own default."""

    workdir: str = ""
    """Absolute directory; empty: an empty scratch directory that lives as long as the conversation."""
    model: str = ""
    system_prompt: str = ""
    approval_mode: ApprovalMode = "default"
    sandbox_mode: SandboxMode = "default"
    max_turns: int | None = None
    max_tokens: int | None = None
    extra: tuple[str, ...] = ()
    """Flags for the CLI, already checked against the allow list."""
    ephemeral: bool = False
    """The agent is to keep no record of the conversation, where it can."""
    tools: tuple[Tool, ...] = ()
    """The client's own, beside those that the agent has."""


class Usage(Struct, frozen=True):
    """Tokens of one turn. `input_tokens` includes `cached_tokens`; `cost_usd` is None when the agent names none."""

    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    reasoning_tokens: int = 0
    cost_usd: float | None = None


class Start(Struct, frozen=True):
    """The backend accepted the turn."""

    TYPE: ClassVar[str] = "start"
    model: str
    workdir: str


class Message(Struct, frozen=True, gc=False):
    """A piece of answer text, as fine as the backend gives it."""

    TYPE: ClassVar[str] = "message"
    text: str


class Thinking(Struct, frozen=True, gc=False):
    """A piece of visible reasoning."""

    TYPE: ClassVar[str] = "thinking"
    text: str


class ToolUse(Struct, frozen=True, omit_defaults=True):
    """The agent calls one of its own tools, or one of the client's."""

    TYPE: ClassVar[str] = "tool_use"
    id: str
    name: str
    input: Any
    client: int = 0
    """Not 0: the client's tool. Calls that wait for the client together are counted down: the last one has 1."""


class ToolResult(Struct, frozen=True):
    """What came of a tool call."""

    TYPE: ClassVar[str] = "tool_result"
    id: str
    output: str
    is_error: bool = False


Leave = Literal["allow", "allow_always", "deny"]
"""An answer to a `Permission`: this once, from now on in this conversation, or no."""


class Permission(Struct, frozen=True):
    """The agent asks leave; `options` are the answers it takes."""

    TYPE: ClassVar[str] = "permission"
    id: str
    tool: str
    input: Any
    options: tuple[Leave, ...]


class Failed(Struct, frozen=True):
    """The turn failed: the last event of that turn. `retry_after` is in seconds, where it is known."""

    TYPE: ClassVar[str] = "error"
    code: Code
    message: str
    type: str | UnsetType = UNSET
    """The class of the error in the API's words; filled in where the event is written."""
    retry_after: float | UnsetType = UNSET
    param: str | UnsetType = UNSET
    """The field of the request at fault, where the agent found one."""
    result: Raw | UnsetType = UNSET
    """As in `Complete`: what became of a fan-out until it failed."""


class Complete(Struct, frozen=True):
    """The turn ended well: the last event of that turn.

    A driver fills `stop_reason` (`end_turn`, `max_tokens`, `max_turns`, `stop_sequence`) and `token_usage`; the run
    adds the rest. `output` is all `Message` texts of the turn, joined.
    """

    TYPE: ClassVar[str] = "complete"
    stop_reason: str
    token_usage: Usage = Usage()
    exit_code: int = 0
    duration_ms: int = 0
    output: str = ""
    denied: tuple[str, ...] = ()
    """Names of the tools that were refused leave in this turn."""
    result: Raw | UnsetType = UNSET
    """The whole result of a fan-out, JSON; filled in by the run, in its own last event."""


def as_failed(refusal: Refusal) -> Failed:
    """Return a refusal as the last event of the turn that was refused."""
    return Failed(
        refusal.code,
        refusal.message,
        retry_after=UNSET if refusal.retry_after is None else refusal.retry_after,
        param=UNSET if refusal.param is None else refusal.param,
    )


def as_refusal(failed: Failed) -> Refusal:
    """Return the failure of a turn as the answer to its request."""
    wait = None if failed.retry_after is UNSET else failed.retry_after
    param = None if failed.param is UNSET else failed.param
    return Refusal(failed.code, failed.message, param=param, retry_after=wait)


Event = Start | Message | Thinking | ToolUse | ToolResult | Permission | Failed | Complete


class Entry(Struct, frozen=True, gc=False, omit_defaults=True):
    """An event in a run's log, as every native stream writes it (contract, section 2)."""

    type: str
    backend: str
    content: Event
    timestamp: str
    """UTC, RFC 3339, milliseconds."""
    run_id: str
    seq: int
    """From 1 within the run, without gaps."""
    session_id: str = ""
    task: int | UnsetType = UNSET
