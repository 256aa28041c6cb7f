"""Letting go of what is old: in steps that are small enough to take between two writes."""

import math
import sqlite3

from clinvoker.store.listing import used_bytes
from clinvoker.store.sessions import delete_by_key

STEP = 50
"""Sessions or runs that one step deletes."""

VACUUM_PAGES = 1000
"""Pages that one step gives back to the file system."""


def expire(connection: sqlite3.Connection, before: float, most: int = STEP) -> int:
    """Delete sessions last used before that time, and runs begun before it; return how many, at most `most`.

    What is in hand stays. A session that is still used keeps its turns, but not the events of its old runs.
    """
    sessions = connection.execute(
        "SELECT key, id FROM sessions WHERE updated < ? AND status <> 'running' ORDER BY updated LIMIT ?",
        (before, most),
    ).fetchall()
    for key, session_id in sessions:
        delete_by_key(connection, key, session_id)
    runs = connection.execute(
        """
        DELETE FROM runs WHERE key IN (
            SELECT key FROM runs WHERE began < ? AND status <> 'running' ORDER BY began LIMIT ?
        )
        """,
        (before, most - len(sessions)),
    ).rowcount
    return len(sessions) + runs


def purge_oldest(connection: sqlite3.Connection, most: int = STEP) -> int:
    """Delete what is oldest among sessions and runs, whichever; return how many, at most `most`."""
    oldest = connection.execute(
        """
        SELECT time FROM (
            SELECT * FROM (SELECT updated AS time FROM sessions WHERE status <> 'running' ORDER BY updated LIMIT ?)
            UNION ALL
            SELECT * FROM (SELECT began AS time FROM runs WHERE status <> 'running' ORDER BY began LIMIT ?)
        ) ORDER BY time LIMIT ?
        """,
        (most, most, most),
    ).fetchall()
    if not oldest:
        return 0
    # The last of them included.
    return expire(connection, math.nextafter(oldest[-1][0], math.inf), most)


def over(connection: sqlite3.Connection, most_bytes: int) -> bool:
    """Whether more than `most_bytes` of the database are in use."""
    return used_bytes(connection) > most_bytes


def give_back(connection: sqlite3.Connection) -> bool:
    """Return some free pages to the file system; say whether there are many more."""
    free = connection.execute("PRAGMA freelist_count").fetchone()[0]
    if free >= VACUUM_PAGES:
        connection.execute(f"PRAGMA incremental_vacuum({VACUUM_PAGES})").fetchall()
    return free >= 2 * VACUUM_PAGES
