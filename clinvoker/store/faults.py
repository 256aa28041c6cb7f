"""What SQLite's failures mean: whose fault, what to say, and whether the connection is still good."""

import sqlite3

from actors.errors import Code, Refusal

_WORDS = {
    sqlite3.SQLITE_FULL: "the disk is full",
    sqlite3.SQLITE_BUSY: "the database is locked by another process",
    sqlite3.SQLITE_LOCKED: "the database is locked",
    sqlite3.SQLITE_READONLY: "the database is read-only",
    sqlite3.SQLITE_CANTOPEN: "the database cannot be opened",
    sqlite3.SQLITE_IOERR: "the disk failed",
    sqlite3.SQLITE_PERM: "no leave to use the database",
    sqlite3.SQLITE_NOMEM: "out of memory",
    sqlite3.SQLITE_CORRUPT: "the database is damaged",
    sqlite3.SQLITE_NOTADB: "the database is damaged",
    sqlite3.SQLITE_INTERRUPT: "the query took too long",
}

_OUT_OF_REACH = {
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_AUTH,
    sqlite3.SQLITE_NOMEM,
    sqlite3.SQLITE_PROTOCOL,
    sqlite3.SQLITE_NOLFS,
}
_STILL_GOOD = {sqlite3.SQLITE_FULL, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_CONSTRAINT}
RETRY_SECONDS = 1.0


def primary(error: BaseException) -> int:
    """SQLite's primary result code, 0 if the failure is not SQLite's."""
    code = getattr(error, "sqlite_errorcode", 0)
    return code & 0xFF if isinstance(code, int) else 0


def is_out_of_reach(error: BaseException) -> bool:
    """Whether the file could not be used, which says nothing about its content."""
    return primary(error) in _OUT_OF_REACH


def is_still_good(error: BaseException) -> bool:
    """Whether the connection can be expected to work once the fault is gone."""
    return primary(error) in _STILL_GOOD


def is_damage(error: BaseException) -> bool:
    """Whether the file's content is broken."""
    return primary(error) in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}


def describe(error: BaseException) -> str:
    """The failure in a few words for people."""
    words = _WORDS.get(primary(error))
    return f"{words} ({error})" if words else str(error) or type(error).__name__


def as_refusal(error: BaseException) -> Refusal:
    """The failure as the answer to whoever asked."""
    if isinstance(error, Refusal):
        return error
    wait = RETRY_SECONDS if is_out_of_reach(error) else None
    return Refusal(Code.STORAGE, f"the store cannot do it: {describe(error)}", retry_after=wait)
