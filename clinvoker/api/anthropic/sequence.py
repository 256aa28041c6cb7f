"""From a turn's events to the event sequence of a streamed message: a state machine that knows no I/O.

    message_start (content_block_start content_block_delta* content_block_stop)* message_delta message_stop

A turn that fails breaks it off with `error`, wherever it stands. What the agent does with its own tools is not told: a
`tool_use` block would ask the caller to run them.
"""

from base64 import b64encode
from collections.abc import Iterable

import msgspec

from actors.errors import Code
from actors.messages import Complete, Event, Failed, Message, Start, Thinking, Usage
from clinvoker.api.anthropic import events as wire
from clinvoker.api.anthropic.events import StreamEvent

SIGNATURE = b64encode(b"clinvoker").decode()
"""Clients send a signature back unread, and we read none: the agent knows itself what it thought."""

_STOP_REASONS = {
    "end_turn": "end_turn",
    "max_tokens": "max_tokens",
    "max_turns": "pause_turn",  # the next request goes on
    "stop_sequence": "stop_sequence",
    "refusal": "refusal",
}

_encoder = msgspec.json.Encoder()


class Sequence:
    """The events of one message. `model` is its name until the agent tells another; `prompt_tokens` an estimate."""

    def __init__(
        self, message_id: str, model: str, *, prompt_tokens: int = 0, request_id: str = "", thinking: bool = True
    ) -> None:
        self._id = message_id
        self._model = model
        self._prompt_tokens = prompt_tokens
        self._request_id = request_id
        self._shows_thinking = thinking
        self._begun = False
        self._next = 0
        self._open: type[Message | Thinking] | None = None

    def take(self, content: Event) -> list[StreamEvent]:
        """What an event adds to the stream, often nothing."""
        match content:
            case Message(text):
                return self._piece(Message, wire.TextDelta(text)) if text else []
            case Thinking(text):
                return self._piece(Thinking, wire.ThinkingDelta(text)) if text and self._shows_thinking else []
            case Start(model):
                self._model = model or self._model
                return self._begin()
            case Complete():
                ending = wire.Ending(_STOP_REASONS.get(content.stop_reason, "end_turn"))
                return self._end(ending, tokens(content.token_usage))
            case Failed(Code.REFUSED):
                ending = wire.Ending("refusal", stop_details=wire.StopDetails(content.message))
                return self._end(ending, tokens(Usage()))
            case _:
                return []
