"""Opening the database: checked, migrated, and never silently replaced.

`Database` stands for the file across connections. Its first `open` in a process also ends the runs that an earlier
process left running. A damaged file is set aside under a name that says so, and a fresh one takes its place; a file
that is merely out of reach (no room, no leave, in use) or newer than this program is a `StoreError` and stays.
"""

import sqlite3
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path
from urllib.parse import quote

from clinvoker.logs import get_logger
from clinvoker.store import faults
from clinvoker.store.errors import StoreError
from clinvoker.store.interrupted import interrupt_running
from clinvoker.store.place import NAME, leftover, prepare_directory, prepare_files, set_aside
from clinvoker.store.schema import VERSION, is_ours, migrate
from clinvoker.store.search import heal

Clock = Callable[[], float]
"""Seconds since 1970."""

BUSY_SECONDS = 1.0
"""How long a statement waits for another process's lock."""

OLDEST_SQLITE = (3, 37, 0)
"""The first one with strict tables."""

_log = get_logger("clinvoker.store")


class DamagedError(StoreError):
    """The file is no database of ours that can be trusted, and was set aside."""


class Database:
    """The database file of one state directory."""

    def __init__(self, directory: str | Path, clock: Clock = time.time) -> None:
        self.path = Path(directory) / NAME
        self.clock = clock
        self._checked = False
        self._begun = False

    def prepare(self) -> str:
        """Open, check and close it, once, before anything depends on it: the next `open` need not check again.

        Returns what people should be told, empty if all is well. Raises `StoreError`.
        """
        connection, notice = self._open()
        connection.close()
        self._checked = True
        return notice

    def open(self) -> sqlite3.Connection:
        """Return the writing connection. Raises `StoreError`."""
        if self._checked:
            self._checked = False
            return self.connect()
        return self._open()[0]

    def connect(self) -> sqlite3.Connection:
        """Return a writing connection to a database that was checked before. Raises `sqlite3.Error`."""
        connection = self._connect()
        try:
            _set_up(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def reader(self) -> sqlite3.Connection:
        """Return a connection that only reads. Raises `sqlite3.Error`."""
        connection = self._connect()
        try:
            connection.execute("PRAGMA query_only = ON")
            connection.execute("PRAGMA cache_size = -16000")
        except BaseException:
            connection.close()
            raise
        return connection

    def identity(self) -> tuple[int, int] | None:
        """Which file the path names now; None if it names none."""
        try:
            found = self.path.stat()
        except OSError:
            return None
        return found.st_dev, found.st_ino

    def _open(self) -> tuple[sqlite3.Connection, str]:
        _check_sqlite()
        prepare_directory(self.path.parent)
        try:
            return self._open_checked(), ""
        except DamagedError as damage:
            return self._open_checked(), str(damage)

    def _open_checked(self) -> sqlite3.Connection:
        if leftover(self.path):
            raise self._set_aside("the file is empty, its write-ahead log is not")
        prepare_files(self.path)
        with ExitStack() as undo:
            try:
                connection = self._connect()
                undo.callback(connection.close)
                flaw = _check(connection, self.path)
                if not flaw and not self._begun:
                    interrupt_running(connection, self.clock())
                    self._begun = True
            except (sqlite3.Error, UnicodeError) as error:
                raise self._judge(error) from None
            if flaw:
                raise self._set_aside(flaw)
            undo.pop_all()
        return connection

    def _judge(self, error: sqlite3.Error | UnicodeError) -> StoreError:
        if faults.is_out_of_reach(error):
            return StoreError(f"{self.path} cannot be used: {faults.describe(error)}")
        return self._set_aside(str(error))

    def _set_aside(self, reason: str) -> "DamagedError":
        """Rename the file. It is still open then, or closing it would write its log into it: nothing is touched."""
        aside = set_aside(self.path, self.clock())
        _log.error("store_damaged", path=str(self.path), reason=reason, set_aside=str(aside))
        return DamagedError(
            f"{self.path} is damaged ({reason}); it was set aside as {aside.name}, a new one begins empty"
        )

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            f"file:{quote(str(self.path))}?mode=rw",
            uri=True,
            timeout=BUSY_SECONDS,
            isolation_level=None,
            check_same_thread=False,
            cached_statements=128,
        )
        # A damaged byte in a text must not make its row unreadable.
        connection.text_factory = _text
        return connection


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "replace")


def _check_sqlite() -> None:
    if sqlite3.sqlite_version_info < OLDEST_SQLITE:
        raise StoreError(f"this Python has SQLite {sqlite3.sqlite_version}, 3.37 or later is needed")
    with closing(sqlite3.connect(":memory:")) as connection:
        if not connection.execute("SELECT 1 FROM pragma_module_list WHERE name = 'fts5'").fetchone():
            raise StoreError("this Python's SQLite has no full-text search (FTS5)")


def _check(connection: sqlite3.Connection, path: Path) -> str:
    """Bring the database up to date; return what is wrong with it, empty if nothing is. Raises `StoreError`."""
    with path.open("rb") as file:
        header = file.read(20)
    if header and header[18:20] not in {b"\1\1", b"\2\2"}:
        return "its header names another format"
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    findings = [str(row[0]) for row in connection.execute("PRAGMA quick_check(1)")]
    if findings != ["ok"]:
        return findings[0] if findings else "the check gave no result"
    if version > VERSION:
        raise StoreError(
            f"{path} was written by a newer clinvoker (schema {version}, this one knows {VERSION}): "
            "update clinvoker, or move the file away"
        )
    if version < 0 or (version == 0 and connection.execute("SELECT 1 FROM sqlite_master").fetchone()):
        return "it is no database of ours"
    if version == 0:
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
    _set_up(connection)
    migrate(connection, version)
    if not is_ours(connection):
        return "its schema is not ours"
    heal(connection)
    return ""


def _set_up(connection: sqlite3.Connection) -> None:
    """Acknowledged means on the disk (FULL); readers and the writer do not wait for each other (WAL)."""
    mode = connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
    if mode != "wal":
        raise StoreError(f"the file system of the state directory cannot do write-ahead logging ({mode})")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute("PRAGMA secure_delete = FAST")
    connection.execute("PRAGMA cell_size_check = ON")
    connection.execute("PRAGMA trusted_schema = OFF")
    connection.execute("PRAGMA journal_size_limit = 16777216")
    connection.execute("PRAGMA cache_size = -16000")
    connection.execute("PRAGMA temp_store = MEMORY")
