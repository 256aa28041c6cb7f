"""The same request sent again joins the run in flight: clients give up, and try again, sooner than agents end.

A further attempt is also answered by a run that has ended since, so that no agent does the same thing twice because a
connection broke.
"""

import math
import time
from collections import OrderedDict
from contextlib import suppress
from typing import Literal

import msgspec
import trio

from actors.errors import ActorDied, Code
from actors.messages import Failed
from actors.run import Look
from clinvoker.chat.failure import ActedRefusal, refusal_of
from clinvoker.service import Service, Started
from clinvoker.store import RunRecord

Attempt = Literal["first", "some", "repeated", "further"]
"""What the client says of a request: that it never sent it before, nothing, nothing though it is known to send again
for long, or that it was sent before."""

AFTER_A_FAILURE = {"first": 0.0, "some": 10.0, "repeated": 30.0, "further": math.inf}
"""Seconds after a failure in which a request is taken for the same one: Vercel's AI SDK tries again after 2 and 6 seconds,
whatever it was told (6.0.326), Claude Code for 25."""
AROUND = 2
"""Entries of a run whose agent was not heard of: its start and its end."""
MOST = 1024
"""Flights that are remembered: more than can be in the air."""


class Flights:
    """The runs in flight, by what makes requests the same."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._flights: OrderedDict[bytes, _Flight] = OrderedDict()

    async def join(self, key: bytes, caller: str, attempt: Attempt) -> Started | None:
        """Return the run that answers the same request already, and None if this one is to start it.

        After a None, `started` or `failed` must follow.
        """
        while (flight := self._flights.get(key)) is not None:
            await flight.decided.wait()
            if flight.started is not None and await self._is_answer(flight.started, caller, attempt):
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

    async def _is_answer(self, started: Started, caller: str, attempt: Attempt) -> bool:
        run_id = started.identity.run_id
        with suppress(ActorDied):
            run = await self._service.live_run(run_id, caller)
            if run is not None and await run.ask(Look()) is None:
                return True
        record = await self._service.store.run(run_id, caller)
        if record is None or record.ended is None:
            return False  # it never began
        if record.status == "complete":
            return attempt == "further"
        lately = time.time() - record.ended < AFTER_A_FAILURE[attempt]
        return lately and await self._has_acted(record)

    async def _has_acted(self, run: RunRecord) -> bool:
        """Whether the agent of a run that failed may have done something, which somebody was there to read."""
        failed = msgspec.json.decode(run.outcome, type=Failed)
        heard = bool(await self._service.store.events(run.id, AROUND, 1))
        acted = isinstance(refusal_of(failed, begun=True, heard=heard), ActedRefusal)
        return acted and failed.code is not Code.CANCELLED


class _Flight:
    def __init__(self) -> None:
        self.started: Started | None = None
        self.decided = trio.Event()
