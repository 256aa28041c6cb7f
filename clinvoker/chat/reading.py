"""Following a chat's run: what a dialect writes out, batch by batch, cut at a stop sequence."""

from collections.abc import AsyncIterator, Awaitable, Callable
from math import inf
from typing import Protocol

import trio
from msgspec import Struct
from msgspec.structs import replace

from actors.messages import Complete, Entry, Event, Failed, Message, Start, Thinking, ToolUse, Usage
from actors.run import Identity
from clinvoker.chat.failure import Refused, has_failed, refusal_of
from clinvoker.chat.held import TOOL_USE, Part
from clinvoker.chat.stopping import StopFilter
from clinvoker.chat.tokens import estimate
from clinvoker.follower import Follower

STOP_SEQUENCE = "stop_sequence"
"""Why an answer ended that was cut."""

End = Callable[[Complete], Awaitable[None]]

Hold = Callable[[tuple[str, ...], int], Awaitable[None]]
"""Has the run wait for the client's answers to these calls, the last of which is that entry."""


class Answer(Struct, frozen=True):
    """A whole answer."""

    text: str
    thinking: str
    complete: Complete
    events: tuple[Event, ...]
    """All that it came in."""

    @property
    def calls(self) -> list[ToolUse]:
        """The calls of its own tools that the client is to answer."""
        return [event for event in self.events if isinstance(event, ToolUse) and event.client]


class Reply(Protocol):
    """What a dialect writes out: batches of events, the last one of which is a `Complete` or a `Failed`."""

    @property
    def identity(self) -> Identity:
        """The run, and its session."""
        ...

    @property
    def after(self) -> int:
        """The entry of the run after which this answer begins; not 0 where the run was held before."""
        ...

    @property
    def stopped_by(self) -> str | None:
        """The stop sequence that cut the answer, whose `stop_reason` is then `STOP_SEQUENCE`."""
        ...

    def close(self) -> None:
        """Stop following."""
        ...

    async def opening(self, patience: float) -> None:
        """Wait until the agent is heard, but no longer than that: then a failure can still be the request's answer.

        Raises `Refusal` if the turn failed, and nothing of it is to be written.
        """
        ...

    async def more(self, patience: float) -> bool:
        """Wait for the next batch, but no longer than that; returns whether it is there."""
        ...

    async def collect(self, patience: float = inf) -> Answer | None:
        """The whole answer; None if it takes longer than that, and can be asked for again.

        Raises `Refusal` if there is none. Nothing else takes batches meanwhile.
        """
        ...

    def __aiter__(self) -> AsyncIterator[list[Event]]: ...

    async def __anext__(self) -> list[Event]: ...


class ChatRun:
    """A run that is followed (a `Reply`). Iterate once; `close` is synchronous."""

    def __init__(
        self,
        identity: Identity,
        follower: Follower,
        *,
        stop: tuple[str, ...],
        prompt: str,
        cancel: Callable[[], Awaitable[object]],
        ended: End,
        hold: Hold,
        after: int = 0,
    ) -> None:
        self.identity = identity
        self.after = after
        self._hold = hold
        self._began = after > 0
        self._follower = follower
        self._filter = StopFilter(stop) if stop else None
        self._prompt = prompt
        self._cancel = cancel
        self._ended = ended
        self._waiting: list[list[Entry]] = []
        self._heard = after > 0
        self._said: list[str] = []
        self._events: list[Event] = []
        self._over = False
        self._part = Part(after)

    def close(self) -> None:
        """Stop following."""
        self._follower.close()

    @property
    def stopped_by(self) -> str | None:
        """The stop sequence that cut the answer."""
        return self._filter.hit if self._filter is not None else None

    async def begin(self) -> None:
        """Wait until the agent has taken the turn. Raises `Refusal` if it has not."""
        if not self._waiting:
            await self._wait_page()
        content = self._waiting[0][0].content
        if has_failed(content):
            raise refusal_of(content, begun=False, heard=False)

    async def opening(self, patience: float) -> None:
        """Wait until the agent is heard, but no longer than that (`Reply`)."""
        with trio.move_on_after(patience):
            while not self._waiting or not (self._heard or isinstance(self._last, Complete | Failed)):
                await self._wait_page()
        if not self._heard and self._waiting and has_failed(failed := self._last):
            raise refusal_of(failed, begun=self._began, heard=False)

    async def more(self, patience: float) -> bool:
        """Wait for the next events, but no longer than that (`Reply`)."""
        if not self._waiting and not self._over:
            with trio.move_on_after(patience):
                await self._wait_page()
        return bool(self._waiting) or self._over

    async def collect(self, patience: float = inf) -> Answer | None:
        """The whole answer, if it is there in time (`Reply`)."""
        deadline = trio.current_time() + patience
        while not self._over:
            if not await self.more(deadline - trio.current_time()):
                return None
            self._events += await self._next_batch()
        last = self._events[-1]
        if isinstance(last, Failed):
            raise refusal_of(last, begun=self._began, heard=self._heard)
        if isinstance(last, Complete):
            thinking = "".join(event.text for event in self._events if type(event) is Thinking)
            return Answer("".join(self._said), thinking, last, tuple(self._events))
        raise AssertionError("a follower never ends without a last event")

    def __aiter__(self) -> "ChatRun":
        return self

    async def __anext__(self) -> list[Event]:
        while not self._over:
            if not self._waiting:
                await self._wait_page()
            if batch := await self._next_batch():
                return batch
        raise StopAsyncIteration

    async def _next_batch(self) -> list[Event]:
        """What goes out of the page that waits; nothing, if that may be the beginning of a stop sequence."""
        batch = await self._passed(self._waiting.pop(0))
        self._said.extend(event.text for event in batch if type(event) is Message)
        return batch

    @property
    def _last(self) -> Event:
        return self._waiting[-1][-1].content

    async def _wait_page(self) -> None:
        page = await anext(self._follower)
        self._waiting.append(page)
        self._began = self._began or type(page[0].content) is Start
        self._heard = self._heard or any(
            not isinstance(one.content, Start | Failed | Complete) for one in page
        )

    async def _passed(self, page: list[Entry]) -> list[Event]:
        """The events as they go out; the answer's end may come before the run's."""
        events = self._part.take(page)
        if self._part.upto:
            return await self._held(events)
        if not events:
            return events
        last = events[-1]
        self._over = isinstance(last, Complete | Failed)
        if self._filter is not None:
            events = self._cut(self._filter, events)
            if self._filter.hit is not None:
                self._over = True
                await self._cancel()
                return events
        if isinstance(last, Complete) and not isinstance(last, Refused):
            # Of a run that was held, this request's answer is but the last part.
            await self._ended(replace(last, output=self._text(events)) if self.after else last)
        return events

    async def _held(self, events: list[Event]) -> list[Event]:
        """The end of an answer that has the client run its tools."""
        self._over = True
        if self._filter is not None:
            events = self._cut(self._filter, events)
            if self._filter.hit is not None:
                await self._cancel()
                return events
        await self._hold(tuple(self._part.calls), self._part.upto)
        said = self._text(events)
        return [*events, Complete(TOOL_USE, Usage(estimate(self._prompt), estimate(said)), output=said)]

    def _text(self, events: list[Event]) -> str:
        return "".join([*self._said, *(event.text for event in events if type(event) is Message)])

    def _cut(self, stopping: StopFilter, events: list[Event]) -> list[Event]:
        passed: list[Event] = []
        for event in events:
            if type(event) is Message:
                if text := stopping.feed(event.text):
                    passed.append(Message(text))
                if stopping.hit is not None:
                    return [*passed, self._cut_short(passed)]
                continue
            is_end = isinstance(event, Complete) or (isinstance(event, ToolUse) and event.client)
            if is_end and (rest := stopping.rest()):
                passed.append(Message(rest))
            passed.append(event)
        return passed

    def _cut_short(self, passed: list[Event]) -> Complete:
        """The end of an answer whose agent has not said what it took."""
        said = self._text(passed)
        return Complete(STOP_SEQUENCE, Usage(estimate(self._prompt), estimate(said)), output=said)
