"""The turns of a session: begun, finished, copied, deleted. A finished one can be found by its words."""

import sqlite3

from msgspec.json import Decoder, encode

from actors.errors import Code, Refusal
from actors.messages import Usage
from clinvoker.logs import get_logger
from clinvoker.store import search
from clinvoker.store.records import TurnRecord
from clinvoker.store.schema import TURN_BITS

_usage = Decoder(Usage).decode
_log = get_logger("clinvoker.store")


def add_turn(connection: sqlite3.Connection, turn: TurnRecord, *, sole: bool = True) -> None:
    """Begin a turn, once; the session is in use from here on. Refused unless it is the session's next.

    Number 0 stands for whichever is the next. With `sole`, the turn's run becomes the session's.
    """
    row = connection.execute("SELECT key, turns FROM sessions WHERE id = ?", (turn.session,)).fetchone()
    if row is None:
        raise Refusal(Code.NOT_FOUND, f"no session {turn.session}", param="session_id")
    session, turns = row
    number = turn.number or turns + 1
    # A run may take two turns with the same words: the moment tells them apart.
    again = "SELECT 1 FROM turns WHERE key IN (?, ?) AND run = ? AND prompt = ? AND started = ?"
    last = turns if turn.number == 0 else number
    keys = session << TURN_BITS | last, turn_key(session, number)
    if connection.execute(again, (*keys, turn.run, turn.prompt, turn.started)).fetchone():
        return
    if number != turns + 1:
        raise Refusal(Code.STORAGE, f"turn {number} of session {turn.session} cannot follow turn {turns}")
    connection.execute(
        "INSERT INTO turns (key, session, run, prompt, started) VALUES (?, ?, ?, ?, ?)",
        (turn_key(session, number), session, turn.run, turn.prompt, turn.started),
    )
    if sole:
        connection.execute("UPDATE runs SET session = ? WHERE id = ?", (turn.session, turn.run))
    connection.execute(
        "UPDATE sessions SET turns = ?, status = 'running', updated = max(updated, ?) WHERE key = ?",
        (number, turn.started, session),
    )


def finish_turn(
    connection: sqlite3.Connection,
    key: int,
    output: str,
    code: str | None,
    message: str,
    usage: Usage | None,
    ended: float,
) -> None:
    """End a turn that is in hand; one that has ended stays as it is."""
    row = connection.execute("SELECT session, prompt, ended FROM turns WHERE key = ?", (key,)).fetchone()
    if row is None:
        raise Refusal(Code.NOT_FOUND, f"no turn {key & ((1 << TURN_BITS) - 1)} in the session")
    session, prompt, already = row
    if already is not None:
        return
    connection.execute(
        "UPDATE turns SET output = ?, code = ?, message = ?, usage = ?, ended = ? WHERE key = ?",
        (output, code, message, None if usage is None else encode(usage), ended, key),
    )
    connection.execute(
        "UPDATE sessions SET status = ?, updated = max(updated, ?) WHERE key = ?",
        ("idle" if code is None else "error", ended, session),
    )
    _index(connection, key, prompt, output)


def turns_of(
    connection: sqlite3.Connection, session_id: str, after: int = 0, most: int = -1
) -> tuple[TurnRecord, ...]:
    """The turns of a session in order, after number `after`."""
    rows = connection.execute(
        """
        SELECT turns.key, run, prompt, output, code, message, usage, started, ended
        FROM sessions JOIN turns ON turns.session = sessions.key
        WHERE sessions.id = ? AND turns.key > (sessions.key << ?) + ? ORDER BY turns.key LIMIT ?
        """,
        (session_id, TURN_BITS, after, most),
    )
    return tuple(
        TurnRecord(
            session=session_id,
            number=key & ((1 << TURN_BITS) - 1),
            run=run,
            prompt=prompt,
            output=output,
            code=code,
            message=message,
            usage=None if usage is None else _usage(usage),
            started=started,
            ended=ended,
        )
        for key, run, prompt, output, code, message, usage, started, ended in rows
    )


def copy_turns(connection: sqlite3.Connection, source: int, target: int) -> None:
    """Give a session without turns the finished turns of another."""
    rows = connection.execute(
        """
        SELECT run, prompt, output, code, message, usage, started, ended FROM turns
        WHERE session = ? AND ended IS NOT NULL ORDER BY key
        """,
        (source,),
    ).fetchall()
    for number, row in enumerate(rows, 1):
        key = turn_key(target, number)
        connection.execute(
            """
            INSERT INTO turns (key, session, run, prompt, output, code, message, usage, started, ended)
            VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
            """,
            (key, target, *row),
        )
        _index(connection, key, row[1], row[2])
    connection.execute("UPDATE sessions SET turns = ? WHERE key = ?", (len(rows), target))


def delete_turns(connection: sqlite3.Connection, session: int) -> None:
    """Delete all turns of a session."""
    finished = connection.execute(
        "SELECT key, prompt, output FROM turns WHERE session = ? AND ended IS NOT NULL", (session,)
    )
    for key, prompt, output in finished:
        try:
            search.unindex_turn(connection, key, prompt, output)
        except sqlite3.DatabaseError as error:
            _tolerate(error)
    connection.execute("DELETE FROM turns WHERE session = ?", (session,))


def key_of(connection: sqlite3.Connection, session: int, run: str) -> int:
    """The key of the last turn that a run took in a session. Raises `Refusal` if there is none."""
    find = "SELECT key FROM turns WHERE key BETWEEN ? AND ? AND run = ? ORDER BY key DESC LIMIT 1"
    bounds = session << TURN_BITS, (session + 1) << TURN_BITS
    row = connection.execute(find, (*bounds, run)).fetchone()
    if row is None:
        raise Refusal(Code.NOT_FOUND, f"no turn of {run} in the session")
    return row[0]


def turn_key(session: int, number: int) -> int:
    """The key of a session's turn. Raises `Refusal` beyond what a session can hold."""
    if not 0 < number < 1 << TURN_BITS:
        raise Refusal(Code.INVALID_REQUEST, f"a session has at most {(1 << TURN_BITS) - 1} turns")
    return session << TURN_BITS | number


def _index(connection: sqlite3.Connection, key: int, prompt: str, output: str) -> None:
    """Make a turn findable; a damaged index must not cost us the turn itself."""
    try:
        search.index_turn(connection, key, prompt, output)
    except sqlite3.DatabaseError as error:
        _tolerate(error)


def _tolerate(error: sqlite3.DatabaseError) -> None:
    # A damaged index may also believe that it has the turn already.
    if error.sqlite_errorcode not in {sqlite3.SQLITE_CORRUPT_VTAB, sqlite3.SQLITE_CONSTRAINT}:
        raise error
    _log.error("search_index_damaged", error=str(error))
