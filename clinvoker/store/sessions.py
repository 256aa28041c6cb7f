"""Sessions: putting, changing, forking, deleting, and finding one."""

import sqlite3
from collections.abc import Callable
from typing import Any, TypeVar

import msgspec
from msgspec import UNSET, UnsetType
from msgspec.json import Decoder, encode

from actors.errors import Code, Refusal
from actors.messages import Options
from clinvoker.store.records import PREFIX, Ambiguous, SessionRecord
from clinvoker.store.turns import copy_turns, delete_turns

COLUMNS = (
    "id, owner, backend, options, workdir, model, title, tags, metadata, status, conversation, parent, turns, "
    "created, updated"
)
T = TypeVar("T")
_options = Decoder(Options).decode
_tags = Decoder(tuple[str, ...]).decode
_metadata = Decoder(dict[str, str]).decode


def put_session(connection: sqlite3.Connection, session: SessionRecord) -> None:
    """Store a session, or replace the one of its id."""
    given = (
        session.owner,
        session.backend,
        encode(session.options),
        session.workdir,
        session.model,
        session.title,
        encode(session.tags),
        encode(session.metadata),
        session.status,
        session.conversation,
        session.parent,
        session.created,
        session.updated,
    )
    connection.execute(
        """
        INSERT INTO sessions (id, owner, backend, options, workdir, model, title, tags, metadata, status, conversation,
            parent, created, updated)
        VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
        ON CONFLICT (id) DO UPDATE SET owner = excluded.owner, backend = excluded.backend, options = excluded.options,
            workdir = excluded.workdir, model = excluded.model, title = excluded.title, tags = excluded.tags,
            metadata = excluded.metadata, status = excluded.status, conversation = excluded.conversation,
            parent = excluded.parent, created = excluded.created, updated = excluded.updated
        """,
        (session.id, *given),
    )
    _tag(connection, key_of(connection, session.id), session.tags)


def edit_session(
    connection: sqlite3.Connection,
    session_id: str,
    title: str | UnsetType = UNSET,
    tags: tuple[str, ...] | UnsetType = UNSET,
) -> None:
    """Change what people may change of a session. It counts as no use of it."""
    key = key_of(connection, session_id)
    if title is not UNSET:
        connection.execute("UPDATE sessions SET title = ? WHERE key = ?", (title, key))
    if tags is not UNSET:
        connection.execute("UPDATE sessions SET tags = ? WHERE key = ?", (encode(tags), key))
        _tag(connection, key, tags)


def set_conversation(connection: sqlite3.Connection, session_id: str, conversation: str | None) -> None:
    """Note the agent's own id of the conversation."""
    key = key_of(connection, session_id)
    connection.execute("UPDATE sessions SET conversation = ? WHERE key = ?", (conversation, key))


def fork_session(connection: sqlite3.Connection, session: SessionRecord) -> None:
    """Store a new session with the finished turns of its parent."""
    parent = key_of(connection, session.parent or "")
    put_session(connection, session)
    copy_turns(connection, parent, key_of(connection, session.id))


def delete_session(connection: sqlite3.Connection, session_id: str) -> None:
    """Delete a session with its turns, runs and events."""
    delete_by_key(connection, key_of(connection, session_id), session_id)


def delete_by_key(connection: sqlite3.Connection, key: int, session_id: str) -> None:
    """Delete a session with its turns, runs and events, and the runs of several turns that took one of them here."""
    # A fork has copies of turns whose runs were its parent's.
    connection.execute(
        """
        DELETE FROM runs WHERE session IS NULL AND id IN (
            SELECT turns.run FROM turns JOIN sessions ON sessions.key = turns.session
            WHERE sessions.key = ? AND sessions.parent IS NULL
        )
        """,
        (key,),
    )
    delete_turns(connection, key)
    connection.execute("DELETE FROM runs WHERE session = ?", (session_id,))
    connection.execute("DELETE FROM sessions WHERE key = ?", (key,))


def get_session(
    connection: sqlite3.Connection, session_id: str, owner: str
) -> SessionRecord | Ambiguous | None:
    """The owner's session of that id, or the only one whose id begins with these 4 characters or more."""
    exact = f"SELECT {COLUMNS} FROM sessions WHERE owner = ? AND id = ?"  # noqa: S608 - constants
    row = connection.execute(exact, (owner, session_id)).fetchone()
    if row is not None:
        return session_of(row)
    if len(session_id) < PREFIX:
        return None
    begins = f"SELECT {COLUMNS} FROM sessions WHERE owner = ? AND id >= ? AND id < ? LIMIT 2"  # noqa: S608 - constants
    rows = connection.execute(begins, (owner, session_id, session_id + "\U0010ffff")).fetchall()
    match rows:
        case [row]:
            return session_of(row)
        case []:
            return None
        case _:
            return Ambiguous(session_id)


def key_of(connection: sqlite3.Connection, session_id: str) -> int:
    """The key of a session. Raises `Refusal` if there is none."""
    row = connection.execute("SELECT key FROM sessions WHERE id = ?", (session_id,)).fetchone()
    if row is None:
        raise Refusal(Code.NOT_FOUND, f"no session {session_id}", param="session_id")
    return row[0]


def session_of(row: tuple[Any, ...]) -> SessionRecord:
    """The record in a row of `COLUMNS`."""
    return SessionRecord(
        id=row[0],
        owner=row[1],
        backend=row[2],
        options=decoded(_options, row[3], f"session {row[0]}"),
        workdir=row[4],
        model=row[5],
        title=row[6],
        tags=decoded(_tags, row[7], f"session {row[0]}"),
        metadata=decoded(_metadata, row[8], f"session {row[0]}"),
        status=row[9],
        conversation=row[10],
        parent=row[11],
        turns=row[12],
        created=row[13],
        updated=row[14],
    )


def decoded(decode: Callable[[bytes], T], raw: bytes, where: str) -> T:
    """Decode stored JSON; what cannot be read any more is a fault of the store."""
    try:
        return decode(raw)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        raise Refusal(Code.STORAGE, f"what is stored of {where} is damaged") from None


def _tag(connection: sqlite3.Connection, key: int, tags: tuple[str, ...]) -> None:
    connection.execute("DELETE FROM session_tags WHERE key = ?", (key,))
    connection.executemany(
        """
        INSERT INTO session_tags (owner, tag, updated, key, backend, status)
        SELECT owner, ?, updated, key, backend, status FROM sessions WHERE key = ?
        """,
        [(tag, key) for tag in dict.fromkeys(tags)],
    )
