"""The events of runs: one row for a batch of lines, never one for an event.

What is stored of a run is always the beginning of its log, without a gap: a batch must begin where the last one ended.
Storing a batch again that is stored already does nothing, so whoever got no answer may simply send it once more.
"""

import sqlite3

from actors.errors import Code, Refusal
from clinvoker.store.runs import run_key

MOST_BYTES = 1024 * 1024
"""Events are handed out in pages of this size, about."""


def append_events(connection: sqlite3.Connection, run_id: str, first: int, last: int, lines: bytes) -> None:
    """Store the entries `first` to `last` of a run, each a line of `lines` that ends in a newline."""
    if first > last or lines.count(b"\n") != last - first + 1 or not lines.endswith(b"\n"):
        raise Refusal(Code.STORAGE, f"not {last - first + 1} lines for events {first} to {last} of {run_id}")
    run = run_key(connection, run_id)
    stored = last_seq(connection, run)
    if first == stored + 1:
        connection.execute(
            "INSERT INTO events (run, first_seq, last_seq, lines) VALUES (?, ?, ?, ?)",
            (run, first, last, lines),
        )
        return
    again = "SELECT 1 FROM events WHERE run = ? AND last_seq = ? AND first_seq = ? AND lines = ?"
    if connection.execute(again, (run, last, first, lines)).fetchone() is None:
        raise Refusal(Code.STORAGE, f"events {first} to {last} of {run_id} cannot follow event {stored}")


def last_seq(connection: sqlite3.Connection, run: int) -> int:
    """The number of the last stored event of a run, by its key; 0 if there is none."""
    query = "SELECT last_seq FROM events WHERE run = ? ORDER BY last_seq DESC LIMIT 1"
    row = connection.execute(query, (run,)).fetchone()
    return 0 if row is None else row[0]


def last_line(connection: sqlite3.Connection, run: int) -> bytes:
    """The last stored event of a run, by its key; empty if there is none."""
    query = "SELECT lines FROM events WHERE run = ? ORDER BY last_seq DESC LIMIT 1"
    row = connection.execute(query, (run,)).fetchone()
    return b"" if row is None else row[0].splitlines()[-1]


def events_after(connection: sqlite3.Connection, run_id: str, seq: int, most: int) -> list[bytes]:
    """Up to `most` stored events of a run after number `seq`, in order: the first is number `seq + 1`.

    Fewer when they are large. None: nothing more is stored (yet).
    """
    batches = connection.execute(
        """
        SELECT first_seq, lines FROM events WHERE run = (SELECT key FROM runs WHERE id = ?) AND last_seq > ?
        ORDER BY last_seq
        """,
        (run_id, seq),
    )
    found: list[bytes] = []
    size = 0
    for first, lines in batches:
        found.extend(lines.split(b"\n")[max(0, seq + 1 - first) : -1])
        size += len(lines)
        if len(found) >= most or size >= MOST_BYTES:
            break
    batches.close()
    return found[:most]
