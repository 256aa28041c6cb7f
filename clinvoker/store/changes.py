"""What can be changed: each change a frozen struct that knows how to apply itself within a transaction."""

import sqlite3

import msgspec
from msgspec import UNSET, Struct, UnsetType

from actors.messages import Failed, Usage
from clinvoker.store import events, filings, interrupted, notes, runs, sessions, spending, turns
from clinvoker.store.records import RunRecord, RunStatus, SessionRecord, TurnRecord


class Change(Struct, frozen=True):
    """One change. `apply` raises a `Refusal` for what cannot be done."""

    def apply(self, connection: sqlite3.Connection) -> None:
        """Make the change, in the transaction that is open."""
        raise NotImplementedError


class PutSession(Change, frozen=True):
    """Store a session, or replace the one of its id."""

    session: SessionRecord

    def apply(self, connection: sqlite3.Connection) -> None:
        """Make the change."""
        sessions.put_session(connection, self.session)


class ForkSession(Change, frozen=True):
    """Store a new session with the finished turns of its `parent`."""

    session: SessionRecord

    def apply(self, connection: sqlite3.Connection) -> None:
        """Make the change."""
        sessions.fork_session(connection, self.session)


class EditSession(Change, frozen=True):
    """Change a session's title or tags; it counts as no use of it."""

    session: str
    title: str | UnsetType = UNSET
    tags: tuple[str, ...] | UnsetType = UNSET

    def apply(self, connection: sqlite3.Connection) -> None:
        """Make the change."""
        sessions.edit_session(connection, self.session, self.title, self.tags)


class SetConversation(Change, frozen=True):
    """Note the agent's own id of a session's conversation; None: it cannot be resumed any more."""

    session: str
    conversation: str | None

    def apply(self, connection: sqlite3.Connection) -> None:
        """Make the change."""
        sessions.set_conversation(connection, self.session, self.conversation)


class DeleteSession(Change, frozen=True):
    """Delete a session with its turns, runs and events."""

    session: str

    def apply(self, connection: sqlite3.Connection) -> None:
        """Make the change."""
        sessions.delete_session(connection, self.session)


class FileSession(Change, frozen=True):
    """File a session under hashes of the conversation that it has had; its next turn makes that void."""

    session: str
    hashes: tuple[bytes, ...]

    def apply(self, connection: sqlite3.Connection) -> None:
        """Make the change."""
        filings.file_session(connection, self.session, self.hashes)


class AddTurn(Change, frozen=True):
    """Begin a session's next turn (number `SessionRecord.turns + 1`, or 0); the session is `running` from here on."""

    turn: TurnRecord
    sole: bool = True
    """Whether the turn is all that its run does, which is then the session's run."""

    def apply(self, connection: sqlite3.Connection) -> None:
        """Make the change."""
        turns.add_turn(connection, self.turn, sole=self.sole)


class FinishTurn(Change, frozen=True):
    """End the turn that a run took; `code` and `message` say how it failed. One that has ended stays as it is."""

    session: str
    run: str
    ended: float
    output: str = ""
    code: str | None = None
    message: str = ""
    usage: Usage | None = None

    def apply(self, connection: sqlite3.Connection) -> None:
        """Make the change."""
        key = turns.key_of(connection, sessions.key_of(connection, self.session), self.run)
        turns.finish_turn(connection, key, self.output, self.code, self.message, self.usage, self.ended)


class BeginRun(Change, frozen=True):
    """Store a run that begins."""

    run: RunRecord

    def apply(self, connection: sqlite3.Connection) -> None:
        """Make the change."""
        runs.begin_run(connection, self.run)


class AppendEvents(Change, frozen=True):
    """Store a batch of a run's entries, NDJSON; it must begin where the last batch ended, or be that batch again."""

    run: str
    first: int
    last: int
    lines: bytes

    def apply(self, connection: sqlite3.Connection) -> None:
        """Make the change."""
        events.append_events(connection, self.run, self.first, self.last, self.lines)


class FinishRun(Change, frozen=True):
    """End a run; one that has ended stays as it is."""

    run: str
    status: RunStatus
    ended: float
    outcome: bytes = b""

    def apply(self, connection: sqlite3.Connection) -> None:
        """Make the change."""
        runs.finish_run(connection, self.run, self.status, self.ended, self.outcome)


class AbandonRun(Change, frozen=True):
    """End a run, and its turn, by this failure, after whatever is stored of it; nothing if it is not going."""

    run: str
    failed: Failed
    ended: float

    def apply(self, connection: sqlite3.Connection) -> None:
        """Make the change."""
        interrupted.abandon_run(connection, self.run, self.failed, self.ended)


class AddNote(Change, frozen=True):
    """Store a surface's note on the answer of a run that begins after that entry, once; nothing of a run that is not kept."""

    run: str
    after: int
    note: bytes

    def apply(self, connection: sqlite3.Connection) -> None:
        """Make the change."""
        notes.add_note(connection, self.run, self.after, self.note)


class AddSpending(Change, frozen=True):
    """Store the tokens that a turn used; `use` is an id of its own."""

    use: str
    owner: str
    day: int
    tokens: int

    def apply(self, connection: sqlite3.Connection) -> None:
        """Make the change."""
        spending.add_spending(connection, self.use, self.owner, self.day, self.tokens)


_BASE = 256


def weight(value: object) -> int:
    """Bytes that a change holds in memory, about."""
    match value:
        case str() | bytes():
            return len(value)
        case Struct():
            return _BASE + sum(weight(field) for field in msgspec.structs.astuple(value))
        case tuple() | list():
            return sum(weight(item) for item in value)  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]
        case dict():
            return sum(weight(key) + weight(item) for key, item in value.items())  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]
        case _:
            return 8
