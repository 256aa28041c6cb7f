"""A reply that satisfies a JSON Schema, from an agent that was only told so: checked, and corrected once if need be."""

from collections.abc import AsyncIterator
from math import inf
from typing import TYPE_CHECKING, Any

import trio
from msgspec.structs import replace

from actors.errors import Code
from actors.messages import Complete, Event, Message, Usage
from clinvoker.chat.asked import Asked
from clinvoker.chat.comparing import fault_of
from clinvoker.chat.conversation import Said
from clinvoker.chat.failure import ActedRefusal, Refused
from clinvoker.chat.held import TOOL_USE
from clinvoker.chat.reading import Answer, ChatRun
from clinvoker.chat.structured import json_of, repair

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
        self._first: Answer | None = None
        self._answer: Answer | None = None
        self._told = False

    def close(self) -> None:
        """Stop following."""
        self._closed = True
        self._run.close()

    async def opening(self, patience: float) -> None:
        """Wait for the answer: there is nothing to be heard before."""
        await self.collect(patience)

    async def more(self, patience: float) -> bool:
        """Wait for the answer, too."""
        return await self.collect(patience) is not None

    async def collect(self, patience: float = inf) -> Answer | None:
        """The answer, once it satisfies the schema (`Reply`)."""
        deadline = trio.current_time() + patience
        while self._answer is None:
            answer = await self._run.collect(deadline - trio.current_time())
            if answer is None:
                return None
            await self._check(answer)
        return self._answer

    def __aiter__(self) -> AsyncIterator[list[Event]]:
        return self

    async def __anext__(self) -> list[Event]:
        if self._told:
            raise StopAsyncIteration
        answer = await self.collect()
        self._told = True
        return list(answer.events) if answer is not None else []

    async def _check(self, answer: Answer) -> None:
        """Take the answer, or have it corrected once. Raises `Refusal`."""
        if answer.complete.stop_reason == TOOL_USE or isinstance(answer.complete, Refused):
            self._answer = answer
            return
        text = json_of(answer.text)
        fault = await fault_of(text, self._schema)
        if fault is None:
            usage = answer.complete.token_usage
            if self._first is not None:
                usage = _sum(self._first.complete.token_usage, usage)
            self._answer = _as_answer(text, replace(answer.complete, token_usage=usage))
            # What the client knows of: its own message, and the right answer.
            await self._chats.file(self._asked, self._run.identity.session_id, text)
        elif self._first is None:
            self._first = answer
            chat = self._asked.chat
            said = (*chat.history, chat.newest, Said("assistant", answer.text))
            again = replace(chat, history=said, newest=Said("user", repair(fault)))
            self._run = await self._chats.follow_up(replace(self._asked, chat=again))
            if self._closed:
                self._run.close()
        else:
            message = f"the agent's answer does not satisfy the schema, even when told so: {fault}"
            raise ActedRefusal(Code.BACKEND_ERROR, message)


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
