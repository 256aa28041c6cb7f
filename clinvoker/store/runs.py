"""Runs: begun, finished, found, and joined by the key that a caller gave them."""

import sqlite3
from typing import Any

from actors.errors import Code, Refusal
from clinvoker.store.records import RunRecord, RunStatus

KEY_SECONDS = 24 * 3600
"""How long an idempotency key names its run."""

_COLUMNS = "id, session, owner, kind, backend, status, began, ended, outcome, idempotency_key, body_hash"


def begin_run(connection: sqlite3.Connection, run: RunRecord) -> None:
    """Store a run, once. Refused if its id, or the owner's idempotency key within 24 h, is another run's."""
    if run.idempotency_key is not None:
        connection.execute(
            "UPDATE runs SET idempotency_key = NULL WHERE owner = ? AND idempotency_key = ? AND began <= ?",
            (run.owner, run.idempotency_key, run.began - KEY_SECONDS),
        )
    again = "SELECT 1 FROM runs WHERE id = ? AND owner = ? AND began = ?"
    if connection.execute(again, (run.id, run.owner, run.began)).fetchone():
        return
    try:
        connection.execute(
            f"INSERT INTO runs ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",  # noqa: S608 - constants
            (
                run.id,
                run.session,
                run.owner,
                run.kind,
                run.backend,
                run.status,
                run.began,
                run.ended,
                run.outcome,
                run.idempotency_key,
                run.body_hash,
            ),
        )
    except sqlite3.IntegrityError:
        raise Refusal(
            Code.INVALID_REQUEST, "the idempotency key names another run", param="Idempotency-Key"
        ) from None


def finish_run(
    connection: sqlite3.Connection, run_id: str, status: RunStatus, ended: float, outcome: bytes
) -> None:
    """End a run; one that has ended stays as it is."""
    key = run_key(connection, run_id)
    connection.execute(
        "UPDATE runs SET status = ?, ended = ?, outcome = ? WHERE key = ? AND status = 'running'",
        (status, ended, outcome, key),
    )


def get_run(connection: sqlite3.Connection, run_id: str, owner: str) -> RunRecord | None:
    """The owner's run of that id."""
    query = f"SELECT {_COLUMNS} FROM runs WHERE id = ? AND owner = ?"  # noqa: S608 - constants
    row = connection.execute(query, (run_id, owner)).fetchone()
    return None if row is None else _run_of(row)


def find_idempotent(connection: sqlite3.Connection, owner: str, key: str, now: float) -> RunRecord | None:
    """The run that the owner began under that key within the last 24 h."""
    query = f"SELECT {_COLUMNS} FROM runs WHERE owner = ? AND idempotency_key = ? AND began > ?"  # noqa: S608 - constants
    row = connection.execute(query, (owner, key, now - KEY_SECONDS)).fetchone()
    return None if row is None else _run_of(row)


def run_key(connection: sqlite3.Connection, run_id: str) -> int:
    """The key of a run. Raises `Refusal` if there is none."""
    row = connection.execute("SELECT key FROM runs WHERE id = ?", (run_id,)).fetchone()
    if row is None:
        raise Refusal(Code.NOT_FOUND, f"no run {run_id}", param="run_id")
    return row[0]


def _run_of(row: tuple[Any, ...]) -> RunRecord:
    return RunRecord(
        id=row[0],
        session=row[1],
        owner=row[2],
        kind=row[3],
        backend=row[4],
        status=row[5],
        began=row[6],
        ended=row[7],
        outcome=row[8],
        idempotency_key=row[9],
        body_hash=row[10],
    )
