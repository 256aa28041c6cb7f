"""From a turn's events to the event sequence of a streamed message: a state machine that knows no I/O.

    message_start (content_block_start content_block_delta* content_block_stop)* message_delta message_stop

A turn that fails breaks it off with `error`, wherever it stands. What the agent does with its own tools is not told: a
`tool_use` block asks the caller to run one of its.
"""

from base64 import b64encode
from collections.abc import Iterable

import msgspec
from msgspec.structs import replace

from actors.messages import Complete, Event, Failed, Message, Start, Thinking, ToolUse, Usage
from clinvoker.api.anthropic import events as wire
from clinvoker.api.anthropic.events import StreamEvent
from clinvoker.api.dialects import anthropic_error
from clinvoker.api.errors import fault_of
from clinvoker.api.frames import unbroken
from clinvoker.chat.failure import Refused
from clinvoker.chat.held import TOOL_USE

SIGNATURE = b64encode(b"clinvoker").decode()
"""Clients send a signature back unread, and we read none: the agent knows itself what it thought."""

_STOP_REASONS = {
    "end_turn": "end_turn",
    "max_tokens": "max_tokens",
    "max_turns": "pause_turn",  # the next request goes on
    "stop_sequence": "stop_sequence",
    "refusal": "refusal",
    TOOL_USE: "tool_use",
}

PIECE = 2048
"""Characters of a tool's input in one event."""

_encoder = msgspec.json.Encoder()


class Sequence:
    """The events of one message. `model` is its name until the agent tells another; `prompt_tokens` an estimate."""

    def __init__(
        self,
        message_id: str,
        model: str,
        *,
        prompt_tokens: int = 0,
        request_id: str = "",
        thinking: bool = True,
    ) -> None:
        self._id = message_id
        self._model = model
        self._prompt_tokens = prompt_tokens
        self._request_id = request_id
        self._shows_thinking = thinking
        self._begun = False
        self._next = 0
        self._open: type[Message | Thinking] | None = None

    def take(self, content: Event, stopped_by: str | None = None) -> list[StreamEvent]:  # noqa: PLR0911 - a table
        """What an event adds, often nothing. `stopped_by` is the stop sequence that ended the answer."""
        match content:
            case Message(text) if text:
                return self._piece(Message, wire.TextDelta(text))
            case Thinking(text) if text and self._shows_thinking:
                return self._piece(Thinking, wire.ThinkingDelta(text))
            case ToolUse(client=client) if client:
                return self._call(content)
            case Start(model):
                self._model = model or self._model
                return self._begin()
            case Refused():
                ending = wire.Ending("refusal", stop_details=wire.StopDetails(content.message))
                return self._end(ending, tokens(content.token_usage))
            case Complete():
                ending = wire.Ending(_STOP_REASONS.get(content.stop_reason, "end_turn"), stopped_by)
                return self._end(ending, tokens(content.token_usage))
            case Failed():
                return [broken(content, self._request_id)]
            case _:
                return []

    def _begin(self) -> list[StreamEvent]:
        if self._begun:
            return []
        self._begun = True
        usage = wire.Tokens(input_tokens=self._prompt_tokens)
        return [wire.MessageStart(wire.Message(self._id, self._model, [], None, None, usage))]

    def _piece(
        self, kind: type[Message | Thinking], delta: wire.TextDelta | wire.ThinkingDelta
    ) -> list[StreamEvent]:
        """A piece of a block of that kind, which is opened if another one was open, or none."""
        if self._open is kind:
            return [wire.BlockDelta(self._next - 1, delta)]
        block = wire.TextBlock() if kind is Message else wire.ThinkingBlock()
        events = [*self._begin(), *self._close(), wire.BlockStart(self._next, block)]
        events.append(wire.BlockDelta(self._next, delta))
        self._open = kind
        self._next += 1
        return events

    def _call(self, use: ToolUse) -> list[StreamEvent]:
        """A call of the client's tool: a block of its own, that it is to answer."""
        index = self._next
        self._next += 1
        told = _encoder.encode(use.input).decode()
        pieces = [told[start : start + PIECE] for start in range(0, len(told), PIECE)]
        return [
            *self._begin(),
            *self._close(index - 1),
            wire.BlockStart(index, wire.ToolUseBlock(use.id, use.name)),
            *(wire.BlockDelta(index, wire.InputDelta(piece)) for piece in pieces),
            wire.BlockStop(index),
        ]

    def _close(self, index: int | None = None) -> list[StreamEvent]:
        index = self._next - 1 if index is None else index
        signed = [wire.BlockDelta(index, wire.SignatureDelta(SIGNATURE))] if self._open is Thinking else []
        stopped = [wire.BlockStop(index)] if self._open is not None else []
        self._open = None
        return [*signed, *stopped]

    def _end(self, ending: wire.Ending, usage: wire.Tokens) -> list[StreamEvent]:
        return [*self._begin(), *self._close(), wire.MessageDelta(ending, usage), wire.MessageStop()]


def broken(failed: Failed, request_id: str) -> wire.Broken:
    """The end of a stream whose turn failed."""
    _, error = anthropic_error(fault_of(failed.code, failed.message))
    return wire.Broken(wire.Fault(error["type"], error["message"]), request_id)


def tokens(usage: Usage) -> wire.Tokens:
    """A turn's tokens as this API counts them: those from a cache apart."""
    return wire.Tokens(
        input_tokens=max(0, usage.input_tokens - usage.cached_tokens),
        cache_read_input_tokens=usage.cached_tokens,
        output_tokens=usage.output_tokens,
        output_tokens_details=wire.TokenDetails(usage.reasoning_tokens),
    )


def frames(events: Iterable[StreamEvent]) -> bytes:
    """Events as they go out: without its `event:` line the official SDKs see none of them."""
    return unbroken(
        b"".join(b"event: %b\ndata: %b\n\n" % (event.TYPE, _encoder.encode(event)) for event in events)
    )


def whole(events: Iterable[StreamEvent]) -> wire.Message:
    """The message that the events of an unbroken stream add up to."""
    message: wire.Message | None = None
    blocks: list[wire.Block] = []
    pieces: list[str] = []
    for event in events:
        match event:
            case wire.MessageStart(message):
                pass
            case wire.BlockStart(_, block):
                blocks.append(block)
                pieces = []
            case wire.BlockDelta(_, wire.TextDelta(text) | wire.ThinkingDelta(text)):
                pieces.append(text)
            case wire.BlockDelta(_, wire.InputDelta(piece)):
                pieces.append(piece)
            case wire.BlockStop():
                blocks[-1] = _filled(blocks[-1], "".join(pieces))
            case wire.MessageDelta(ending, usage) if message is not None:
                return replace(
                    message,
                    content=blocks,
                    stop_reason=ending.stop_reason,
                    stop_sequence=ending.stop_sequence,
                    stop_details=ending.stop_details,
                    usage=usage,
                )
            case _:
                pass
    raise ValueError("these events end in no message")


def _filled(block: wire.Block, told: str) -> wire.Block:
    """A block with all that came of it."""
    match block:
        case wire.TextBlock():
            return wire.TextBlock(told)
        case wire.ThinkingBlock():
            return wire.ThinkingBlock(told, SIGNATURE)
        case wire.ToolUseBlock():
            return replace(block, input=msgspec.json.decode(told))
