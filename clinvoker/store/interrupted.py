"""Runs that ended before their end was stored: killed with the daemon, or kept from the store by a fault of the disk."""

import sqlite3
from datetime import UTC, datetime
from typing import Any, Literal

import msgspec
from msgspec import Raw
from msgspec.json import Decoder, encode

from actors.errors import Code
from actors.messages import Failed
from clinvoker.store.events import append_events, last_line, last_seq
from clinvoker.store.lines import Line
from clinvoker.store.runs import finish_run
from clinvoker.store.turns import finish_turn

_FAILED = Failed(Code.INTERRUPTED, "the daemon was stopped before the run had ended", type="api_error")


class _Last(msgspec.Struct, array_like=True):
    type: str = ""
    content: Any = None
    timestamp: str = ""
    backend: str = ""
    session_id: str = ""
    task: int | None = None


class _Text(msgspec.Struct):
    text: str


class _Said(msgspec.Struct, array_like=True):
    type: Literal["message", "complete", "error"]
    content: Raw
    timestamp: str
    backend: str = ""
    session_id: str = ""


_decode = Decoder(_Last).decode
_decode_said = Decoder(_Said).decode
_decode_text = Decoder(_Text).decode


def interrupt_running(connection: sqlite3.Connection, now: float) -> int:
    """End every run and turn that is still going, each run by exactly one last event; return how many runs."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        count = _interrupt(connection, now)
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    return count


def abandon_run(connection: sqlite3.Connection, run_id: str, failed: Failed, now: float) -> None:
    """End a run that is still going, and its turn, by this failure; nothing if there is none."""
    query = "SELECT key FROM runs WHERE id = ? AND status = 'running'"
    row = connection.execute(query, (run_id,)).fetchone()
    if row is not None:
        _end(connection, row[0], run_id, failed, now)


def _interrupt(connection: sqlite3.Connection, now: float) -> int:
    running = connection.execute("SELECT key, id FROM runs WHERE status = 'running'").fetchall()
    for key, run_id in running:
        _end(connection, key, run_id, _FAILED, now)
    for (turn,) in connection.execute("SELECT key FROM turns WHERE ended IS NULL").fetchall():
        finish_turn(connection, turn, "", _FAILED.code, _FAILED.message, None, now)
    connection.execute("UPDATE sessions SET status = 'idle' WHERE status = 'running'")
    return len(running)


def _end(connection: sqlite3.Connection, key: int, run_id: str, failed: Failed, now: float) -> None:
    last = _read(last_line(connection, key))
    if last.task is None and last.type in {"complete", "error"}:
        # Its last event was stored, only the note of it was not.
        finish_run(
            connection, run_id, "complete" if last.type == "complete" else "error", now, encode(last.content)
        )
        return
    seq = last_seq(connection, key) + 1
    moment = datetime.fromtimestamp(now, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    line = encode(Line(failed.TYPE, failed, moment)) + b"\n"
    append_events(connection, run_id, seq, seq, line)
    finish_run(connection, run_id, "error", now, encode(failed))
    turns = """
        SELECT turns.key, sessions.id FROM turns JOIN sessions ON sessions.key = turns.session
        WHERE turns.ended IS NULL AND turns.run = ?
    """
    for turn, session in connection.execute(turns, (run_id,)).fetchall():
        finish_turn(connection, turn, _said(connection, key, session), failed.code, failed.message, None, now)


def _said(connection: sqlite3.Connection, run: int, session: str) -> str:
    """The answer so far in the turn that a run, by its key, has in hand in a session."""
    texts: list[str] = []
    for (lines,) in connection.execute("SELECT lines FROM events WHERE run = ? ORDER BY last_seq", (run,)):
        for line in lines.splitlines():
            try:
                said = _decode_said(line)
                if said.session_id not in {"", session}:
                    continue
                if said.type == "message":
                    texts.append(_decode_text(said.content).text)
                elif said.session_id:  # an earlier turn of the run in this session has ended
                    texts.clear()
            except (msgspec.MsgspecError, UnicodeError, RecursionError):
                continue
    return "".join(texts)


def _read(line: bytes) -> _Last:
    try:
        return _decode(line)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return _Last()
