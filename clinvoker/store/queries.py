"""What can be asked: each question a message of the store that knows how to answer itself from a connection."""

import sqlite3
from typing import Generic, TypeVar

from actors.mailbox import Stream
from clinvoker.store import events, filings, listing, notes, runs, sessions, spending, turns
from clinvoker.store.records import (
    Ambiguous,
    RunRecord,
    SessionFilter,
    SessionPage,
    SessionRecord,
    StoreCounts,
    TurnRecord,
)

T_co = TypeVar("T_co", covariant=True)


class Read(Stream[T_co], Generic[T_co], frozen=True):
    """A question with one answer; a stream, because the answer takes its time on a thread."""

    def query(self, connection: sqlite3.Connection) -> T_co:
        """Answer from what is committed now."""
        raise NotImplementedError


class ListSessions(Read[SessionPage], frozen=True):
    """A page of sessions."""

    wanted: SessionFilter

    def query(self, connection: sqlite3.Connection) -> SessionPage:
        """Answer from what is committed now."""
        return listing.list_sessions(connection, self.wanted)


class GetSession(Read[SessionRecord | Ambiguous | None], frozen=True):
    """A session by its id, or by a unique prefix of at least 4 characters."""

    session: str
    owner: str

    def query(self, connection: sqlite3.Connection) -> SessionRecord | Ambiguous | None:
        """Answer from what is committed now."""
        return sessions.get_session(connection, self.session, self.owner)


class GetTurns(Read[tuple[TurnRecord, ...]], frozen=True):
    """The turns of a session, by its whole id."""

    session: str
    after: int = 0
    most: int = -1

    def query(self, connection: sqlite3.Connection) -> tuple[TurnRecord, ...]:
        """Answer from what is committed now."""
        return turns.turns_of(connection, self.session, self.after, self.most)


class FindFiled(Read[str | None], frozen=True):
    """The session that is filed under the first of these hashes, by its id."""

    hashes: tuple[bytes, ...]

    def query(self, connection: sqlite3.Connection) -> str | None:
        """Answer from what is committed now."""
        return filings.filed_session(connection, self.hashes)


class GetRun(Read[RunRecord | None], frozen=True):
    """A run by its id."""

    run: str
    owner: str

    def query(self, connection: sqlite3.Connection) -> RunRecord | None:
        """Answer from what is committed now."""
        return runs.get_run(connection, self.run, self.owner)


class FindIdempotent(Read[RunRecord | None], frozen=True):
    """The run that an owner began under a key within 24 h before `now`."""

    owner: str
    key: str
    now: float

    def query(self, connection: sqlite3.Connection) -> RunRecord | None:
        """Answer from what is committed now."""
        return runs.find_idempotent(connection, self.owner, self.key, self.now)


class GetEvents(Read[list[bytes]], frozen=True):
    """Up to `most` lines of a run's events after number `seq`."""

    run: str
    seq: int
    most: int

    def query(self, connection: sqlite3.Connection) -> list[bytes]:
        """Answer from what is committed now."""
        return events.events_after(connection, self.run, self.seq, self.most)


class GetNote(Read[bytes | None], frozen=True):
    """The note on a run's answer that begins after an entry."""

    run: str
    after: int

    def query(self, connection: sqlite3.Connection) -> bytes | None:
        """Answer from what is committed now."""
        return notes.get_note(connection, self.run, self.after)


class GetSpending(Read[dict[str, int]], frozen=True):
    """Tokens used on a day, by owner."""

    day: int

    def query(self, connection: sqlite3.Connection) -> dict[str, int]:
        """Answer from what is committed now."""
        return spending.spending(connection, self.day)


class CountAll(Read[StoreCounts], frozen=True):
    """How much there is."""

    def query(self, connection: sqlite3.Connection) -> StoreCounts:
        """Answer from what is committed now."""
        return listing.count_all(connection)
