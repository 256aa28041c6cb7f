"""A reply that satisfies a JSON Schema, from an agent that was only told so: checked, and corrected once if need be."""

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from actors.errors import Code
from actors.messages import Complete, Event, Message, Usage
from clinvoker.chat.asked import Asked
from clinvoker.chat.conversation import Said
from clinvoker.chat.failure import ActedRefusal
from clinvoker.chat.held import TOOL_USE
from clinvoker.chat.reading import Answer, ChatRun
from clinvoker.chat.structured import fault_of, json_of, repair

if TYPE_CHECKING:
    from clinvoker.chat.turn import Chats


class CheckedRun:
    """A `Reply` that says nothing before its answer is known to be right."""

    def __init__(self, chats: "Chats", asked: Asked, run: ChatRun, schema: dict[str, Any]) -> None:
        self.identity = run.identity
        self.after = run.after
        self.stopped_by: str | None = None
        self._chats = chats
        self._asked = asked
        self._run = run
        self._schema = schema
        self._closed = False
        self._answer: Answer | None = None
        self._told = False

    def close(self) -> None:
        """Stop following."""
        self._closed = True
        self._run.close()

    async def opening(self, patience: float) -> None:
        """Wait for the answer: there is nothing to be heard before."""
        del patience
        await self.collect()

    async def more(self, patience: float) -> bool:
        """Wait for the answer, too."""
        await self.opening(patience)
        return True

    async def collect(self) -> Answer:
        """The answer, once it satisfies the schema. Raises `Refusal`."""
        if self._answer is None:
            first = await self._run.collect()
            if first.complete.stop_reason == TOOL_USE:
                self._answer = first
                return first
            text = json_of(first.text)
            fault = fault_of(text, self._schema)
            self._answer = (
                _as_answer(text, first.complete) if fault is None else await self._repaired(first, fault)
            )
            # What the client knows of: its own message, and the right answer.
            self._chats.file(self._asked, self._run.identity.session_id, self._answer.text)
        return self._answer

    def __aiter__(self) -> AsyncIterator[list[Event]]:
        return self

    async def __anext__(self) -> list[Event]:
        if self._told:
            raise StopAsyncIteration
        answer = await self.collect()
        self._told = True
        return list(answer.events)

    async def _repaired(self, first: Answer, fault: str) -> Answer:
        chat = self._asked.chat
        said = (*chat.history, chat.newest, Said("assistant", first.text))
        again = replace(chat, history=said, newest=Said("user", repair(fault)))
        self._run = await self._chats.follow_up(replace(self._asked, chat=again))
        if self._closed:
            self._run.close()
        second = await self._run.collect()
        text = json_of(second.text)
        still = fault_of(text, self._schema)
        if still is not None:
            message = f"the agent's answer does not satisfy the schema, even when told so: {still}"
            raise ActedRefusal(Code.BACKEND_ERROR, message)
        usage = _sum(first.complete.token_usage, second.complete.token_usage)
        return _as_answer(text, replace(second.complete, token_usage=usage))


def _as_answer(text: str, complete: Complete) -> Answer:
    whole = replace(complete, output=text)
    return Answer(text, "", whole, (Message(text), whole))


def _sum(one: Usage, other: Usage) -> Usage:
    costs = [cost for cost in (one.cost_usd, other.cost_usd) if cost is not None]
    return Usage(
        one.input_tokens + other.input_tokens,
        one.output_tokens + other.output_tokens,
        one.cached_tokens + other.cached_tokens,
        one.reasoning_tokens + other.reasoning_tokens,
        sum(costs) if costs else None,
    )
