"""The same request sent again joins the run in flight: clients give up, and try again, sooner than agents end."""

from collections import OrderedDict
from collections.abc import Awaitable, Callable

import trio

from actors.errors import ActorDied
from actors.run import Look
from clinvoker.service import Service, Started

MOST = 1024
"""Flights that are remembered: more than can be in the air."""

Start = Callable[[], Awaitable[Started]]


class Flights:
    """The runs in flight, by what makes requests the same."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._flights: OrderedDict[bytes, _Flight] = OrderedDict()

    async def join(self, key: bytes, caller: str) -> Started | None:
        """Return the run that the same request has in flight, and None if this one is to start it.

        After a None, `started` or `failed` must follow.
        """
        while (flight := self._flights.get(key)) is not None:
            await flight.decided.wait()
            if flight.started is not None and await self._going(flight.started, caller):
                return flight.started
            if self._flights.get(key) is flight:
                break
        # Decided without a wait in between: of two that come together, the second waits for the first.
        self.begin(key)
        return None

    def begin(self, key: bytes) -> None:
        """This request is to start a run, whatever else is in flight; `started` or `failed` must follow."""
        if before := self._flights.pop(key, None):
            before.decided.set()  # who waits for it waits for this one
        self._flights[key] = _Flight()
        while len(self._flights) > MOST:
            _, oldest = self._flights.popitem(last=False)
            oldest.decided.set()

    def started(self, key: bytes, started: Started) -> None:
        """The request has its run."""
        if flight := self._flights.get(key):
            flight.started = started
            flight.decided.set()

    def failed(self, key: bytes) -> None:
        """The request got no run, unless `started` was said before; who waits for one starts it."""
        flight = self._flights.get(key)
        if flight is not None and flight.started is None:
            del self._flights[key]
            flight.decided.set()

    async def _going(self, started: Started, caller: str) -> bool:
        try:
            run = await self._service.live_run(started.identity.run_id, caller)
            return run is not None and await run.ask(Look()) is None
        except ActorDied:
            return False


class _Flight:
    def __init__(self) -> None:
        self.started: Started | None = None
        self.decided = trio.Event()
