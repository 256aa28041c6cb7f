"""The store as its users see it: methods for messages.

    store = StoreClient(refs["store"])
    await store.write(BeginRun(run), AddTurn(turn))        # returns once both are on the disk, or neither
    page = await store.sessions(SessionFilter(owner="me", q="parser"))

Every method raises `Refusal`: `STORAGE` when the disk or the database fails, `NOT_FOUND` when a change names what is
not there.
"""

from collections.abc import Sequence
from contextlib import closing
from typing import TypeVar

import trio

from actors.change import Change as Changed
from actors.errors import ActorDied, Code, Refusal
from actors.mailbox import Ref, Stream
from actors.messages import Entry
from clinvoker.store.actor import Write
from clinvoker.store.changes import AppendEvents, Change, weight
from clinvoker.store.lines import encode_entries
from clinvoker.store.queries import (
    CountAll,
    FindFiled,
    FindIdempotent,
    GetEvents,
    GetNote,
    GetRun,
    GetSession,
    GetSpending,
    GetTurns,
    ListSessions,
)
from clinvoker.store.records import (
    Ambiguous,
    RunRecord,
    SessionFilter,
    SessionPage,
    SessionRecord,
    StoreCounts,
    TurnRecord,
)

ROOM = 32 * 1024**2
"""Bytes of changes that may be on their way at once; whoever has more waits."""

T = TypeVar("T")


def batch(entries: Sequence[Entry], backend: str = "", session_id: str = "") -> AppendEvents:
    """The change that stores these entries, at least one, of one run; backend and session are the run's own."""
    lines = encode_entries(entries, backend, session_id)
    return AppendEvents(entries[0].run_id, entries[0].seq, entries[-1].seq, lines)


class StoreClient:
    """Asks the store. One is shared by all, so that the bound on what is on its way is one bound."""

    def __init__(self, ref: Ref, room: int = ROOM) -> None:
        self._ref = ref
        self._room = room
        self._used = 0
        self._turn = trio.StrictFIFOLock()
        self._freed = Changed()

    async def write(self, *changes: Change) -> None:
        """Make the changes together or not at all; return once they are durable.

        Whoever got no answer may send the same again (a session deleted or forked aside): it is done once.
        """
        size = weight(changes)
        async with self._turn:
            # First come, first served; one that is larger than the room goes alone.
            await self._freed.wait_until(lambda: not self._used or self._used + size <= self._room)
            self._used += size
        try:
            await self._ask(Write(changes))
        finally:
            self._used -= size
            self._freed.announce()

    async def sessions(self, wanted: SessionFilter) -> SessionPage:
        """A page of sessions, the most recently used first."""
        return await self._ask(ListSessions(wanted))

    async def session(self, session_id: str, owner: str) -> SessionRecord | Ambiguous | None:
        """A session by its id, or by a unique prefix of at least 4 characters."""
        return await self._ask(GetSession(session_id, owner))

    async def filed(self, hashes: tuple[bytes, ...]) -> str | None:
        """The session that was filed under the first of these hashes, and has had no turn since."""
        return await self._ask(FindFiled(hashes))

    async def turns(self, session_id: str, after: int = 0, most: int = -1) -> tuple[TurnRecord, ...]:
        """The turns of a session, by its whole id."""
        return await self._ask(GetTurns(session_id, after, most))

    async def run(self, run_id: str, owner: str) -> RunRecord | None:
        """A run by its id."""
        return await self._ask(GetRun(run_id, owner))

    async def events(self, run_id: str, after: int, most: int = 512) -> list[bytes]:
        """Up to `most` events of a run, as `lines` has them, without the newline; the first is number `after + 1`.

        None: nothing more is stored (yet). The caller has asked `run` whether the run is the owner's.
        """
        return await self._ask(GetEvents(run_id, after, most))

    async def note(self, run_id: str, after: int) -> bytes | None:
        """The note on a run's answer that begins after entry `after`.

        The caller has asked `run` whether the run is the owner's.
        """
        return await self._ask(GetNote(run_id, after))

    async def idempotent(self, owner: str, key: str, now: float) -> RunRecord | None:
        """The run that the owner began under that key within 24 h before `now`."""
        return await self._ask(FindIdempotent(owner, key, now))

    async def spending(self, day: int) -> dict[str, int]:
        """Tokens used on a day (UTC, counted from 1970), by owner."""
        return await self._ask(GetSpending(day))

    async def counts(self) -> StoreCounts:
        """How much there is."""
        return await self._ask(CountAll())

    async def _ask(self, message: Stream[T]) -> T:
        try:
            with closing(await self._ref.stream(message)) as answers:
                return await answers.next()
        except ActorDied:
            raise Refusal(Code.STORAGE, "the store has failed or stopped", retry_after=1.0) from None
