"""Lists of sessions: filtered, counted, a page at a time, the most recently used first."""

import sqlite3

from clinvoker.store.records import SessionFilter, SessionPage, SessionRecord, StoreCounts
from clinvoker.store.schema import TURN_BITS
from clinvoker.store.search import as_match
from clinvoker.store.sessions import COLUMNS, session_of

MOST = 1000
"""Sessions on a page, at most."""

_ORDER = "ORDER BY updated DESC, key DESC"
_LISTED = ", ".join(f"sessions.{column}" for column in COLUMNS.split(", "))


def list_sessions(connection: sqlite3.Connection, wanted: SessionFilter) -> SessionPage:
    """The page of a filter. What decides about it stands in one index, so that any offset is cheap."""
    source = "session_tags" if wanted.tag else "sessions"
    where = ["owner = ?"]
    values: list[str | int] = [wanted.owner]
    for column, value in (("tag", wanted.tag), ("backend", wanted.backend), ("status", wanted.status)):
        if value:
            where.append(f"{column} = ?")
            values.append(value)
    if wanted.q.strip():
        match = as_match(wanted.q)
        if not match:
            return SessionPage((), 0, wanted.limit, wanted.offset)
        where.append("key IN (SELECT rowid >> ? FROM turn_words WHERE turn_words MATCH ?)")
        values.extend((TURN_BITS, match))
    chosen = f"FROM {source} WHERE {' AND '.join(where)}"
    with_total = f"SELECT count(*) {chosen}"
    page = f"""
        SELECT {_LISTED} FROM (SELECT key {chosen} {_ORDER} LIMIT ? OFFSET ?) AS page
        JOIN sessions ON sessions.key = page.key ORDER BY sessions.updated DESC, sessions.key DESC
    """  # noqa: S608 - column names and placeholders only
    total: int = connection.execute(with_total, values).fetchone()[0]
    found: tuple[SessionRecord, ...] = ()
    if wanted.offset < total:
        rows = connection.execute(page, [*values, min(wanted.limit, MOST), wanted.offset])
        found = tuple(session_of(row) for row in rows)
    return SessionPage(found, total, wanted.limit, wanted.offset)


def count_all(connection: sqlite3.Connection) -> StoreCounts:
    """How much the store holds."""
    sessions = connection.execute("SELECT count(*) FROM sessions").fetchone()[0]
    return StoreCounts(sessions, used_bytes(connection))


def used_bytes(connection: sqlite3.Connection) -> int:
    """Bytes of the database that are in use: free pages are used again before the file grows."""
    pages, free, size = (
        connection.execute(f"PRAGMA {name}").fetchone()[0]
        for name in ("page_count", "freelist_count", "page_size")
    )
    return (pages - free) * size
