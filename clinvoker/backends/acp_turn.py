"""One turn of an ACP session: the agent's updates go in, events come out, and the turn's end is made of its result."""

import time
from collections.abc import Collection
from typing import Any

from msgspec import Raw

from actors.errors import Code
from actors.messages import Complete, Failed, Start, Thinking, Usage
from actors.outbox import Outbox
from clinvoker.backends.acp_tools import Tools
from clinvoker.backends.acp_wire import PromptEnd, ToolCall, Update, decode_cost, decode_text, decode_tool
from clinvoker.backends.answer import Answer

RETRY_PAUSE = 0.9
"""Seconds of silence after which a text that begins again is taken for a retry: both agents wait a second at least."""

_HEAD = 64

# gemini 0.61.0 says this in the answer when an "allow always" changes its mode.
_MODE_NOTICE = "[MODE_UPDATE] "

_STOP_REASONS = {"end_turn": "end_turn", "max_tokens": "max_tokens", "max_turn_requests": "max_turns"}


class _Voice:
    """The answer's text, or the reasoning: blocks, of which the last may be told again after a pause."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self._head = ""
        """How the block in hand begins."""
        self._message_id: str | None = None
        self._is_cut = False
        self._heard_at = 0.0

    def cut(self) -> None:
        """What comes next is another block."""
        self._is_cut = True

    def say(self, text: str, message_id: str | None) -> None:
        """Take a piece of the block in hand, or of the next."""
        now = time.monotonic()
        if self._is_cut or message_id != self._message_id:
            self._answer.begin_block()
            self._head = ""
            self._is_cut = False
            self._message_id = message_id
        elif now - self._heard_at >= RETRY_PAUSE and self._begins_again(text):
            self._answer.restart_block()
        self._heard_at = now
        if len(self._head) < _HEAD:
            self._head += text[:_HEAD]
        self._answer.delta(text)

    def _begins_again(self, text: str) -> bool:
        """Tell a retry: gemini 0.61.0 and opencode 1.18.33 repeat a block that the model broke off, and do not say so."""
        length = min(len(text), len(self._head))
        return length > 0 and text[:length] == self._head[:length]


class Turn:
    """The events of one turn, up to but without its end."""

    def __init__(self, out: Outbox, start: Start, client_tools: Collection[str] = ()) -> None:
        self.tools = Tools(out, client_tools)
        self.cost: float | None = None
        """What the session has cost by now, in dollars, as last told."""
        self._out = out
        self._start: Start | None = start
        self._text = _Voice(Answer(out))
        self._thought = _Voice(Answer(out, Thinking))

    def begin(self) -> None:
        """The prompt is with the agent, as whoever wrote it knows, or the agent's first update proves."""
        if self._start is not None:
            self._out.put(self._start)
            self._start = None

    def update(self, update: Update, params: Raw) -> None:
        """Take an update; `params` is the whole of it. What is unknown is passed over."""
        self.begin()
        match update.session_update:
            case "agent_message_chunk":
                text = decode_text(update.content).text
                if not text.startswith(_MODE_NOTICE):
                    self._text.say(text, update.message_id)
            case "agent_thought_chunk":
                self._thought.say(decode_text(update.content).text, update.message_id)
            case "tool_call" | "tool_call_update":
                self._cut()
                self.tools.update(decode_tool(params).update)
            case "usage_update":
                cost = decode_cost(params).update.cost
                if cost is not None and cost.currency == "USD":
                    self.cost = cost.amount
            case _:
                pass

    def asked(self, tool_call: ToolCall) -> tuple[str, Any]:
        """Take the call that the agent asks leave for."""
        self.begin()
        self._cut()
        return self.tools.asked(tool_call)

    def end(self, result: PromptEnd, cost_before: float | None) -> Complete | Failed:
        """Return how the turn ended."""
        match result.stop_reason:
            case "refusal":
                return Failed(Code.REFUSED, "the model refused to answer")
            case "cancelled":
                return Failed(Code.CANCELLED, "the agent cancelled the turn")
            case reason if _broke_off(result):
                return Failed(Code.BACKEND_ERROR, f"the model's answer broke off (the agent says {reason})")
            case reason:
                stop_reason = _STOP_REASONS.get(reason, "end_turn")
                usage = _usage(result, self.cost, cost_before)
                return Complete(stop_reason, usage, denied=tuple(dict.fromkeys(self.tools.refused)))

    def _cut(self) -> None:
        self._text.cut()
        self._thought.cut()


def _broke_off(result: PromptEnd) -> bool:
    """Tell a failure in disguise: gemini 0.61.0 says `end_turn` when the last retry failed too, with no model's usage."""
    quota = result.meta.quota if result.meta else None
    return quota is not None and quota.model_usage == []


def _usage(result: PromptEnd, cost: float | None, cost_before: float | None) -> Usage:
    spent = None if cost is None or cost_before is None else round(cost - cost_before, 9)
    if result.usage is not None:
        tokens = result.usage
        cached = tokens.cached_read_tokens or 0
        thought = tokens.thought_tokens or 0
        return Usage(
            input_tokens=tokens.input_tokens + cached + (tokens.cached_write_tokens or 0),
            output_tokens=tokens.output_tokens + thought,
            cached_tokens=cached,
            reasoning_tokens=thought,
            cost_usd=spent,
        )
    if result.meta is not None and result.meta.quota is not None:
        count = result.meta.quota.token_count
        return Usage(input_tokens=count.input_tokens, output_tokens=count.output_tokens, cost_usd=spent)
    return Usage(cost_usd=spent)
