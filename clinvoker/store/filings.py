"""Which session has had exactly a given conversation, by hashes of it (`clinvoker.chat.lineage`)."""

import sqlite3

from clinvoker.store.sessions import key_of


def file_session(connection: sqlite3.Connection, session_id: str, hashes: tuple[bytes, ...]) -> None:
    """File a session under these alone, until its next turn. Of two under the same hash, the later one counts."""
    key = key_of(connection, session_id)
    connection.execute("DELETE FROM filings WHERE session = ?", (key,))
    connection.executemany(
        "INSERT OR REPLACE INTO filings (hash, session, turns) SELECT ?, key, turns FROM sessions WHERE key = ?",
        [(each, key) for each in hashes],
    )


def filed_session(connection: sqlite3.Connection, hashes: tuple[bytes, ...]) -> str | None:
    """The session that is filed under the first of these, if it has had no turn since."""
    for each in hashes:
        row = connection.execute(
            """
            SELECT sessions.id FROM filings JOIN sessions ON sessions.key = filings.session
            WHERE filings.hash = ? AND filings.turns = sessions.turns
            """,
            (each,),
        ).fetchone()
        if row is not None:
            return row[0]
    return None
