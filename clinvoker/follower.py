"""Following a run from any point, whether it is going or only stored."""

from actors.errors import ActorDied, Code, Refusal
from actors.log import timestamp
from actors.mailbox import Replies
from actors.messages import Complete, Entry, Failed
from actors.run import Identity
from clinvoker.store import StoreClient, decode_entries

MOST = 256
"""Entries read from the store at once."""


class Follower:
    """A run's pages from a cursor on, to its one last entry. Iterate once; `close` is synchronous.

    What keeps the reader from the end is told as a last `Failed` entry: this never ends without one.
    """

    def __init__(
        self, identity: Identity, store: StoreClient, live: Replies[list[Entry]] | None, after: int = 0
    ) -> None:
        self.identity = identity
        self._store = store
        self._live = live
        self._seq = after
        self._ended = False

    def close(self) -> None:
        """Stop following."""
        self._ended = True
        if self._live is not None:
            self._live.close()

    def __aiter__(self) -> "Follower":
        return self

    async def __anext__(self) -> list[Entry]:
        if self._ended:
            raise StopAsyncIteration
        page = await self._next()
        if not page:
            self._ended = True
            raise StopAsyncIteration
        self._seq = page[-1].seq
        last = page[-1]
        self._ended = isinstance(last.content, Complete | Failed) and not isinstance(last.task, int)
        return page

    async def _next(self) -> list[Entry]:
        try:
            if self._live is not None:
                try:
                    return await anext(self._live, list[Entry]())
                except ActorDied:
                    # It has ended, or failed; whatever it had told before is stored, unless nothing is kept of it.
                    self._live.close()
                    self._live = None
            return await self._stored()
        except Refusal as refusal:
            return [self._farewell(Failed(refusal.code, refusal.message))]

    async def _stored(self) -> list[Entry]:
        who = self.identity
        lines = await self._store.events(who.run_id, self._seq, MOST)
        if lines:
            return decode_entries(lines, self._seq, who.run_id, who.backend, who.session_id)
        record = await self._store.run(who.run_id, who.owner)
        if record is not None and record.status != "running":
            return []
        return [self._farewell(Failed(Code.INTERNAL, "the run failed inside the daemon"))]

    def _farewell(self, failed: Failed) -> Entry:
        who = self.identity
        return Entry(failed.TYPE, who.backend, failed, timestamp(), who.run_id, self._seq + 1, who.session_id)
