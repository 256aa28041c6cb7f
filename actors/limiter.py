"""Who may run now, and how often each may ask: a bound on concurrent runs, a bounded line before it, token buckets.

A permit is a stream that emits once and stays open while the run goes on; closing it gives the place back.

A caller is whatever text the daemon tells callers apart by: a key's id, or an address.
"""

import math
from collections import deque
from collections.abc import Mapping
from typing import Any

import trio
from msgspec import Struct

from actors.actor import Actor
from actors.bucket import Buckets, Rate, Standing
from actors.change import Change
from actors.errors import Code, Refusal
from actors.line import Line, Ticket
from actors.mailbox import Ask, Emit, Stream, Tell
from actors.telemetry import Observer, QueueLevel


class CallerLimits(Struct, frozen=True):
    """What one caller may: `concurrent` runs at once, and requests at `rate`; None: no limit of its own."""

    concurrent: int | None = None
    rate: Rate | None = None


class Limits(Struct, frozen=True):
    """`concurrent` runs in all, `queue` more that wait, each for `patience` seconds at most.

    `own` are the limits of callers that have some; `each` are those of any other.
    """

    concurrent: int
    queue: int
    patience: float = math.inf
    each: CallerLimits = CallerLimits()
    own: Mapping[str, CallerLimits] = {}

    def of(self, caller: str) -> CallerLimits:
        """The limits of a caller."""
        return self.own.get(caller, self.each)


class Take(Stream[None], frozen=True):
    """A place for one run of `caller`.

    Refused with `BUSY` when the line is full, or the wait has been too long; with `DRAINING` at shutdown.
    """

    caller: str


class Count(Ask[Standing], frozen=True):
    """One request of a caller who has a rate; answered with whether it may be made."""

    caller: str


class IsWanted(Ask[bool], frozen=True):
    """Whether a run waits that would get a place of `caller`, if that were given back."""

    caller: str


class Adjust(Tell, frozen=True):
    """New limits for callers; those in all stay."""

    each: CallerLimits
    own: Mapping[str, CallerLimits]


class Drain(Tell, frozen=True):
    """No new runs from here on."""


class WaitIdle(Stream[None], frozen=True):
    """Emits once no run is going and none waits for a place."""


class Limiter(Actor):
    """Counts requests, and grants places for runs."""

    def __init__(self, limits: Limits, observe: Observer) -> None:
        super().__init__()
        self._limits = limits
        self._buckets = Buckets()
        self._line = Line(limits.concurrent, limits.queue, self._most_of)
        self._joined: dict[str, deque[Ticket]] = {}
        """Accepted, and not yet waited for."""
        self._draining = False
        self._changed = Change()
        self._observe = observe

    async def receive(self, message: Tell | Ask[Any]) -> object:
        """Take `Count`, `IsWanted`, `Adjust` and `Drain`."""
        match message:
            case Count(caller=caller):
                rate = self._limits.of(caller).rate
                if rate is None:  # it lost its limit in this moment
                    return Standing(1, 1, 0.0)
                return self._buckets.take(caller, rate, trio.current_time())
            case IsWanted(caller=caller):
                return self._line.is_wanted(caller)
            case Adjust(each=each, own=own):
                limits = self._limits
                self._limits = Limits(limits.concurrent, limits.queue, limits.patience, each, own)
                self._line.grant()
                self._report()
                return None
            case Drain():
                self._draining = True
                return None
            case _:
                return await super().receive(message)

    async def admit(self, message: Stream[Any]) -> None:
        """Accept a caller into the line, if there is room."""
        match message:
            case WaitIdle():
                pass
            case Take() if self._draining:
                raise Refusal(Code.DRAINING, "the daemon is shutting down", retry_after=5.0)
            case Take(caller=caller):
                ticket = self._line.join(caller)
                self._joined.setdefault(caller, deque()).append(ticket)
                self._report()
            case _:
                await super().admit(message)

    async def produce(self, message: Stream[Any], emit: Emit[Any]) -> None:
        """Hold a place until it is given back."""
        if not isinstance(message, Take):
            await self._changed.wait_until(lambda: not self._line.waiting + self._line.running)
            await emit(None)
            return
        ticket = self._pick_up(message.caller)
        try:
            with trio.move_on_after(self._limits.patience):
                await ticket.decided.wait()
            if not ticket.running:
                why = "too many runs are waiting already"
                if not ticket.dropped:
                    why = f"no place became free within {self._limits.patience:g} s"
                raise Refusal(Code.BUSY, why, retry_after=1.0)
            await emit(None)
            await trio.sleep_forever()
        finally:
            self._line.leave(ticket)
            self._report()

    def _pick_up(self, caller: str) -> Ticket:
        joined = self._joined[caller]
        ticket = joined.popleft()
        if not joined:
            del self._joined[caller]
        return ticket

    def _most_of(self, caller: str) -> float:
        most = self._limits.of(caller).concurrent
        return math.inf if most is None else most

    def _report(self) -> None:
        self._changed.announce()
        self._observe(QueueLevel(self._line.running, self._line.waiting))
