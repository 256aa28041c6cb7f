"""The calls of the client's tools in one run: told to the client together, waited for, answered by a later request.

the agent calls ──▶ put ──▶ ToolUse events ──▶ the client's answer ends there; Deliver: the run is held without a reader
the next request ──▶ AnswerCalls ──▶ each `put` returns ──▶ the agent goes on; followed from the returned entry on
                 or  Abandon ──▶ the run ends
"""

import re
from collections.abc import Callable, Sequence
from typing import Any

import trio
from msgspec import Struct
from msgspec.structs import replace

from actors.asks import Announce
from actors.errors import Code, Refusal
from actors.mailbox import Ask
from actors.messages import ToolAnswer, ToolResult, ToolUse

MOMENT = 0.1
"""Seconds that a call waits for others to go out with it: agents make those of one answer of the model's at once."""

MOST = 64
"""Calls that wait for the client at a time; further ones wait for their turn."""

_ID = re.compile(r"call_([0-9a-f]{32})[0-9]{1,5}")


class Deliver(Ask[None], frozen=True):
    """The client is told of these calls, up to entry `upto`: the run is held until it answers, with or without a reader."""

    calls: tuple[str, ...]
    upto: int


class AnswerCalls(Ask[int], frozen=True):
    """The client's answers to the calls that it was told of together; returns the entry after which its reader goes on.

    Refused if these are not exactly the calls that wait: `NOT_FOUND` if none of them does, else `INVALID_REQUEST`.
    """

    answers: tuple[ToolAnswer, ...]
    detach: bool = False
    """Whether the run goes on without a reader from here on."""


class Abandon(Ask[None], frozen=True):
    """The client will not answer these calls: the run ends, if it waits for any of them."""

    calls: tuple[str, ...]


def run_of_call(call: str) -> str | None:
    """The id of the run that made a call of that id; None if no run of ours did."""
    found = _ID.fullmatch(call)
    return f"run_{found[1]}" if found else None


class _Call(Struct, eq=False):
    number: int
    use: ToolUse
    announce: Announce
    told: trio.Event
    answered: trio.Event
    answer: ToolAnswer | None = None


class _Batch(Struct, eq=False):
    calls: dict[str, _Call]
    upto: int | None = None
    """The entry up to which the client was told, once it was."""
    since: float = 0.0
    """When that was, on trio's clock."""


class Calls:
    """The calls that wait. `changed` is told when the first comes or the last goes, `unanswered` when time is up."""

    def __init__(
        self, run_id: str, patience: float, changed: Callable[[], None], unanswered: Callable[[], None]
    ) -> None:
        self._stem = f"call_{run_id.removeprefix('run_')}"
        self._patience = patience
        self._changed = changed
        self._unanswered = unanswered
        self._serial = 0
        self._waiting: set[str] = set()
        self._gathered: list[_Call] = []
        self._queue: list[_Call] = []
        """Calls that the client is not told of yet."""
        self._batches: list[_Batch] = []
        self._most = MOST

    @property
    def waiting(self) -> bool:
        """Whether any call waits for the client: it is the client then who says nothing."""
        return bool(self._waiting)

    @property
    def held(self) -> bool:
        """Whether the client was told of calls that it has yet to answer."""
        return self.held_since is not None

    @property
    def held_since(self) -> float | None:
        """When the client was last told of calls that it has yet to answer, on trio's clock; None if there are none."""
        return max((batch.since for batch in self._batches if batch.upto is not None), default=None)

    def waits_for(self, calls: Sequence[str]) -> bool:
        """Whether any of these waits for the client."""
        return not self._waiting.isdisjoint(calls)

    def one_at_a_time(self) -> None:
        """Tell the client of no call before the last one is answered."""
        self._most = 1

    async def put(self, name: str, given: Any, number: int, announce: Announce) -> ToolAnswer:  # noqa: ANN401
        """Tell the client of a call and wait for its answer; an error when it does not come (`CallClient`)."""
        self._serial += 1
        use = ToolUse(f"{self._stem}{self._serial}", name, given)
        call = _Call(number, use, announce, trio.Event(), trio.Event())
        self._waiting.add(use.id)
        self._changed()
        try:
            await self._gather(call)
            await call.told.wait()
            with trio.move_on_after(self._patience):
                await call.answered.wait()
        finally:
            self._waiting.discard(use.id)
            self._queue = [each for each in self._queue if each is not call]
            self._batches = [batch for batch in self._batches if batch.calls.keys() & self._waiting]
            self._release()
            self._changed()
        if call.answer is None:
            self._unanswered()
        answer = call.answer or ToolAnswer(use.id, "the client did not answer in time", is_error=True)
        announce(ToolResult(use.id, answer.output, answer.is_error))
        return answer

    def deliver(self, calls: Sequence[str], upto: int) -> None:
        """Note that the client was told of these calls, for the first time; nothing if they wait no more."""
        if (batch := self._batch(calls)) is not None and batch.upto is None:
            batch.upto, batch.since = upto, trio.current_time()
            self._changed()

    def answer(self, answers: Sequence[ToolAnswer]) -> int:
        """Answer the calls of a batch (`AnswerCalls`)."""
        given = [answer.id for answer in answers]
        batch = self._batch(given)
        if batch is None or batch.upto is None:
            code = Code.INVALID_REQUEST if self.waits_for(given) else Code.NOT_FOUND
            raise Refusal(code, "these are not the tool calls that wait for an answer")
        self._batches.remove(batch)
        for answer in answers:
            call = batch.calls[answer.id]
            call.answer = answer
            call.answered.set()
        self._changed()
        return batch.upto

    async def _gather(self, call: _Call) -> None:
        """Wait for others, if this is the first, and queue them all in the order of their numbers."""
        self._gathered.append(call)
        if len(self._gathered) == 1:
            try:
                await trio.sleep(MOMENT)
            finally:
                self._queue += sorted(self._gathered, key=lambda each: each.number)
                self._gathered = []
                self._release()

    def _release(self) -> None:
        """Tell of what is queued, as far as the client takes it, one right after the other."""
        queued = {call.use.id for call in (*self._queue, *self._gathered)}
        free = self._most - len(self._waiting - queued)
        told, self._queue = self._queue[:free], self._queue[free:]
        if not told:
            return
        self._batches.append(_Batch({call.use.id: call for call in told}))
        for left, call in zip(range(len(told), 0, -1), told, strict=True):
            call.announce(replace(call.use, client=left))
            call.told.set()

    def _batch(self, calls: Sequence[str]) -> _Batch | None:
        return next((batch for batch in self._batches if batch.calls.keys() == set(calls)), None)
