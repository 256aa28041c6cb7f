"""Runs that wait for their clients give way to turns that wait for a place.

Many a client wants nothing but the call, as with LangChain's structured output, and never brings the result: the agent
that waits for it must not keep out those who ask. A client that does bring it later has its chat told to a new agent.
"""

from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager, suppress

import trio
from msgspec import Struct

from actors.change import Change
from actors.errors import ActorDied
from actors.lease import Status
from actors.limiter import IsWanted
from actors.mailbox import Ref
from actors.recorder import Recorder
from actors.run import GiveWay
from clinvoker.logs import get_logger

PAUSE = 0.25
"""Seconds between two looks at who waits: a run that ends gives back its place in less."""

_log = get_logger("clinvoker")


class _Turn(Struct, eq=False):
    run: Ref
    recorder: Recorder
    client: str
    """Whose limits count."""


class HeldRuns:
    """The turns that may come to wait for their clients."""

    def __init__(self, limiter: Ref, pools: Mapping[str, Ref], grace: Callable[[], float]) -> None:
        self._limiter = limiter
        self._pools = pools
        self._grace = grace
        self._turns: list[_Turn] = []
        self._changed = Change()

    @contextmanager
    def having(self, run: Ref, recorder: Recorder, client: str) -> Generator[None]:
        """Know of a turn while the block lasts."""
        turn = _Turn(run, recorder, client)
        self._turns.append(turn)
        self._changed.announce()
        try:
            yield
        finally:
            self._turns.remove(turn)

    async def watch(self) -> None:
        """Have runs give way, one at a time, until cancelled."""
        while True:
            await self._changed.wait_until(lambda: self._turns)
            await trio.sleep(PAUSE)
            with suppress(ActorDied):  # one that crashed, and is there again by the next look
                await self._make_room()

    async def _make_room(self) -> None:
        for turn in self._longest_held():
            if await self._is_wanted(turn) and await self._end(turn):
                return

    def _longest_held(self) -> list[_Turn]:
        """The turns whose clients have had the grace, the longest first."""
        until = trio.current_time() - self._grace()
        held = [
            (since, number, turn)
            for number, turn in enumerate(self._turns)
            if (since := turn.recorder.calls.held_since) is not None and since <= until
        ]
        return [turn for _, _, turn in sorted(held)]

    async def _is_wanted(self, turn: _Turn) -> bool:
        """Whether somebody waits for the place of a run, or for an agent."""
        if await self._limiter.ask(IsWanted(turn.client)):
            return True
        return (await self._pools[turn.recorder.identity.backend].ask(Status())).waiting > 0

    async def _end(self, turn: _Turn) -> bool:
        with suppress(ActorDied):
            if await turn.run.ask(GiveWay()):
                _log.info("run gives way", run_id=turn.recorder.identity.run_id)
                return True
        return False
