"""Who may run now: a bound on concurrent runs, and a bounded line before it.

A permit is a stream that emits once and stays open while the run goes on; closing it gives the place back.
"""

from typing import Any

import trio

from actors.actor import Actor
from actors.change import Change
from actors.errors import Code, Refusal
from actors.mailbox import Ask, Emit, Stream, Tell
from actors.telemetry import Observer, QueueLevel


class Take(Stream[None], frozen=True):
    """A place for one run of `caller`. Refused with `BUSY` when the line is full, `DRAINING` at shutdown."""

    caller: str


class Drain(Tell, frozen=True):
    """No new runs from here on."""


class WaitIdle(Stream[None], frozen=True):
    """Emits once no run is going and none waits for a place."""


class Limiter(Actor):
    """Grants places for runs, first come, first served."""

    def __init__(self, concurrent: int, queue: int, observe: Observer) -> None:
        super().__init__()
        self._places = trio.CapacityLimiter(concurrent)
        self._most = concurrent + queue
        self._waiting = 0
        self._running = 0
        self._draining = False
        self._changed = Change()
        self._observe = observe

    async def receive(self, message: Tell | Ask[Any]) -> object:
        """Take `Drain`."""
        match message:
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
            case Take() if self._waiting + self._running >= self._most:
                raise Refusal(Code.BUSY, "too many runs are waiting already", retry_after=1.0)
            case Take():
                self._count(waiting=1)
            case _:
                await super().admit(message)

    async def produce(self, message: Stream[Any], emit: Emit[Any]) -> None:
        """Hold a place until it is given back."""
        if isinstance(message, WaitIdle):
            await self._changed.wait_until(lambda: not self._waiting + self._running)
            await emit(None)
            return
        try:
            await self._places.acquire()
        except BaseException:
            self._count(waiting=-1)
            raise
        self._count(waiting=-1, running=1)
        try:
            await emit(None)
            await trio.sleep_forever()
        finally:
            self._places.release()
            self._count(running=-1)

    def _count(self, waiting: int = 0, running: int = 0) -> None:
        self._waiting += waiting
        self._running += running
        self._changed.announce()
        self._observe(QueueLevel(self._running, self._waiting))
