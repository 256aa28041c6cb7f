"""The lines of claude's stream-json protocol, as far as we read and write them (claude 2.1.330).

The order of keys is not stable, unknown fields and types appear every week: a line is decoded by what it must have and
nothing is asked of the rest. A streamed delta, of which there are tens of thousands, is decoded once, into `Line`;
every other line carries parts that are decoded when they are wanted.
"""

import json
from collections.abc import Iterable
from typing import Any, TypeVar

import msgspec
from msgspec import Raw, Struct

from clinvoker.backends.surrogates import mend
from clinvoker.mcp.server import Message

T = TypeVar("T")

NOTHING = Raw(b"null")


class Delta(Struct, gc=False):
    """What a `content_block_delta` or a `message_delta` adds."""

    type: str = ""
    text: str = ""
    thinking: str = ""
    stop_reason: str | None = None


class Opened(Struct, gc=False):
    """The beginning of a block."""

    type: str = ""


class StreamEvent(Struct, gc=False):
    """An event of the Messages API, passed on."""

    type: str = ""
    delta: Delta | None = None
    content_block: Opened | None = None


class Line(Struct, gc=False):
    """Any line."""

    type: str = ""
    subtype: str | None = None
    event: StreamEvent | None = None
    parent_tool_use_id: str | None = None
    """Not None: a subagent speaks."""
    isSynthetic: bool = False  # noqa: N815 - its name on the wire
    """The CLI itself speaks in the user's place."""
    message: Raw = NOTHING
    request_id: str = ""
    request: Raw = NOTHING
    response: Raw = NOTHING


class Block(Struct):
    """A block of a message's content: text, thinking, tool_use or tool_result."""

    type: str = ""
    text: str = ""
    thinking: str = ""
    id: str = ""
    name: str = ""
    input: Any = None
    tool_use_id: str = ""
    content: Any = None
    is_error: bool | None = None


class Said(Struct):
    """The message of an `assistant` or `user` line."""

    model: str = ""
    content: list[Block] | str = ""


class Init(Struct):
    """`system/init`, the first line of every turn."""

    model: str = ""
    cwd: str = ""


class Synthetic(Struct):
    """An `assistant` line that is an error dressed as an answer."""

    error: str | None = None
    api_error: str | None = None


class Retry(Struct):
    """`system/api_retry`: the CLI waits before it asks the model again."""

    attempt: int = 0
    retry_delay_ms: float = 0
    error_status: int | None = None
    error: str | None = None


class TokenDetails(Struct):
    """What of the output was reasoning."""

    thinking_tokens: int = 0


class Tokens(Struct):
    """The usage of one turn."""

    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_input_tokens: int = 0
    cache_creation_input_tokens: int = 0
    output_tokens_details: TokenDetails | None = None


class ModelUsage(Struct, rename="camel"):
    """What one model cost."""

    cost_usd: float = msgspec.field(name="costUSD", default=0.0)


class Denial(Struct):
    """A tool that was refused leave."""

    tool_name: str = ""


class Result(Struct):
    """The line that ends a turn."""

    subtype: str | None = None
    is_error: bool = False
    result: str | None = None
    errors: list[str] | None = None
    stop_reason: str | None = None
    terminal_reason: str | None = None
    api_error_status: int | None = None
    usage: Tokens | None = None
    total_cost_usd: float | None = None
    model_usage_since_last_result: dict[str, ModelUsage] | None = None
    permission_denials: list[Denial] | None = None
    structured_output: Any = None
    user_message_uuids: list[str] | None = None


class CanUseTool(Struct):
    """A control request of the agent's: `can_use_tool`, when it asks leave, or `mcp_message`."""

    subtype: str = ""
    tool_name: str = ""
    input: Any = None
    permission_suggestions: list[dict[str, Any]] | None = None


class McpMessage(Struct):
    """`control_request/mcp_message`: the agent talks to a server that we named in `initialize`."""

    message: Message


class Answered(Struct):
    """The answer to one of our control requests."""

    subtype: str = ""
    request_id: str = ""
    error: str | None = None
    response: Raw = NOTHING


class Interrupted(Struct):
    """The answer to `interrupt`: messages it took back before they became turns."""

    cancelled: list[str] | None = None


_line = msgspec.json.Decoder(Line)
_decoders: dict[type[Any], msgspec.json.Decoder[Any]] = {}


def read_line(data: bytes) -> tuple[Line, bytes]:
    """Decode a line; also return its bytes, mended where a character was cut in two. Raises `msgspec.DecodeError`."""
    try:
        return _line.decode(data), data
    except msgspec.DecodeError:
        try:
            mended = mend(data)
        except (ValueError, RecursionError) as error:
            raise msgspec.DecodeError(str(error)) from error
        return _line.decode(mended), mended


def read(kind: type[T], data: bytes | Raw) -> T:
    """Decode a part of a line. Raises `msgspec.DecodeError` (a `ValidationError` is one)."""
    decoder = _decoders.get(kind)
    if decoder is None:
        decoder = _decoders[kind] = msgspec.json.Decoder(kind)
    return decoder.decode(data)


def write(message: dict[str, Any]) -> bytes:
    """Encode a line. In ASCII: one malformed line ends the process, so nothing in it may look like the end of one."""
    return json.dumps(message, separators=(",", ":")).encode() + b"\n"


def user_line(uuid: str, content: Iterable[dict[str, Any]]) -> bytes:
    """Encode what the user says."""
    message = {"role": "user", "content": list(content)}
    return write(
        {"type": "user", "message": message, "parent_tool_use_id": None, "session_id": "", "uuid": uuid}
    )


def control_line(request_id: str, subtype: str, fields: dict[str, Any]) -> bytes:
    """Encode a control request of ours."""
    return write(
        {"type": "control_request", "request_id": request_id, "request": {"subtype": subtype, **fields}}
    )


def answer_line(request_id: str, response: dict[str, Any]) -> bytes:
    """Encode the answer to a control request of the agent's."""
    answer = {"subtype": "success", "request_id": request_id, "response": response}
    return write({"type": "control_response", "response": answer})
