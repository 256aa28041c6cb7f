"""What the Messages API answers: the message, and the events of a stream that add up to one.

Everything has each field that the official SDKs' types require.
"""

from typing import Any, ClassVar, Literal

from msgspec import Struct


class TokenDetails(Struct, frozen=True):
    """What became of the output tokens."""

    thinking_tokens: int = 0


class Tokens(Struct, frozen=True):
    """Tokens of a message. `input_tokens` are those that came from no cache."""

    input_tokens: int = 0
    cache_creation_input_tokens: int = 0
    cache_read_input_tokens: int = 0
    output_tokens: int = 0
    output_tokens_details: TokenDetails = TokenDetails()


class TextBlock(Struct, frozen=True, tag="text"):
    """Answer text."""

    text: str = ""


class ThinkingBlock(Struct, frozen=True, tag="thinking"):
    """Visible reasoning. Its signature is for the API that gave it alone."""

    thinking: str = ""
    signature: str = ""


class ToolUseBlock(Struct, frozen=True, tag="tool_use"):
    """A call of a tool of the client's; in a stream, its input comes in pieces of JSON."""

    id: str
    name: str
    input: Any = {}


Block = TextBlock | ThinkingBlock | ToolUseBlock


class StopDetails(Struct, frozen=True):
    """Why an answer was refused."""

    explanation: str | None
    type: Literal["refusal"] = "refusal"
    category: None = None


class Message(Struct, frozen=True):
    """The answer, whole; in a stream, what it begins as."""

    id: str
    model: str
    content: list[Block]
    stop_reason: str | None
    stop_sequence: str | None
    usage: Tokens
    stop_details: StopDetails | None = None
    type: Literal["message"] = "message"
    role: Literal["assistant"] = "assistant"


# The events of a stream: `TYPE` is the name of the frame, too.


class MessageStart(Struct, frozen=True, tag="message_start"):
    """The answer begins."""

    TYPE: ClassVar[bytes] = b"message_start"
    message: Message


class BlockStart(Struct, frozen=True, tag="content_block_start"):
    """A block begins, empty."""

    TYPE: ClassVar[bytes] = b"content_block_start"
    index: int
    content_block: Block


class TextDelta(Struct, frozen=True, tag="text_delta"):
    """A piece of text."""

    text: str


class ThinkingDelta(Struct, frozen=True, tag="thinking_delta"):
    """A piece of reasoning."""

    thinking: str


class InputDelta(Struct, frozen=True, tag="input_json_delta"):
    """A piece of what a tool is called with."""

    partial_json: str


class SignatureDelta(Struct, frozen=True, tag="signature_delta"):
    """The signature of the reasoning, at its end."""

    signature: str


class BlockDelta(Struct, frozen=True, tag="content_block_delta"):
    """A piece of a block."""

    TYPE: ClassVar[bytes] = b"content_block_delta"
    index: int
    delta: TextDelta | ThinkingDelta | InputDelta | SignatureDelta


class BlockStop(Struct, frozen=True, tag="content_block_stop"):
    """A block is whole."""

    TYPE: ClassVar[bytes] = b"content_block_stop"
    index: int


class Ending(Struct, frozen=True):
    """How the answer ended."""

    stop_reason: str
    stop_sequence: str | None = None
    stop_details: StopDetails | None = None


class MessageDelta(Struct, frozen=True, tag="message_delta"):
    """How the answer ended, and all its tokens."""

    TYPE: ClassVar[bytes] = b"message_delta"
    delta: Ending
    usage: Tokens


class MessageStop(Struct, frozen=True, tag="message_stop"):
    """The answer is whole."""

    TYPE: ClassVar[bytes] = b"message_stop"


class Fault(Struct, frozen=True):
    """What went wrong."""

    type: str
    message: str


class Broken(Struct, frozen=True, tag="error"):
    """The answer broke off: what was said before is not the whole."""

    TYPE: ClassVar[bytes] = b"error"
    error: Fault
    request_id: str


StreamEvent = MessageStart | BlockStart | BlockDelta | BlockStop | MessageDelta | MessageStop | Broken
