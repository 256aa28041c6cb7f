"""What a surface notes of a run's answers that the run does not know, by the entry after which an answer begins."""

import sqlite3


def add_note(connection: sqlite3.Connection, run_id: str, after: int, note: bytes) -> None:
    """Store a note, once; nothing of a run that is not stored. It goes with its run."""
    connection.execute(
        "INSERT OR IGNORE INTO notes (run, after, note) SELECT key, ?, ? FROM runs WHERE id = ?",
        (after, note, run_id),
    )


def get_note(connection: sqlite3.Connection, run_id: str, after: int) -> bytes | None:
    """The note, if there is one."""
    query = "SELECT note FROM notes WHERE run = (SELECT key FROM runs WHERE id = ?) AND after = ?"
    row = connection.execute(query, (run_id, after)).fetchone()
    return None if row is None else row[0]
