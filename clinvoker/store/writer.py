"""The one connection that writes. Everything here runs on a worker thread, one call at a time.

Many writes become one transaction, and so one wait for the disk. Each write stands under a savepoint of its own, so
that a bad one takes back its own changes only. When the transaction itself fails, its writes are tried one by one.
"""

import sqlite3
from collections.abc import Callable, Sequence
from typing import TypeVar

from actors.errors import Refusal
from clinvoker.logs import get_logger
from clinvoker.store import faults
from clinvoker.store.changes import Change
from clinvoker.store.database import Database
from clinvoker.store.errors import StoreError

Write = Sequence[Change]
Failure = Exception | None

_ENOUGH = 2
"""Single writes that fail one after the other before the rest is given up: the fault is not theirs."""

T = TypeVar("T")
_log = get_logger("clinvoker.store")


class TransactionLost(Exception):  # noqa: N818 - what has happened
    """SQLite rolled the whole transaction back; the cause is this one's."""


class Writer:
    """Applies writes in groups, and gets a new connection after a fault that the old one may not survive."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._connection: sqlite3.Connection | None = None
        self._identity: tuple[int, int] | None = None
        self._suspect = False
        """Damage has shown: the file is to be checked before it is used again."""

    def open(self) -> None:
        """Open the database, checked. Raises `StoreError`."""
        self._connection = self._database.open()
        self._identity = self._database.identity()
        self._suspect = False

    def close(self) -> None:
        """Close the connection."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def apply(self, writes: Sequence[Write]) -> list[Failure]:
        """Make all writes durable; return what each failed with, None where it did not."""
        try:
            return self._transaction(lambda connection: [_attempt(connection, write) for write in writes])
        except (sqlite3.Error, StoreError, OSError, TransactionLost) as error:
            failure = _cause(error)
        if (
            len(writes) == 1
            or isinstance(failure, StoreError)
            or faults.primary(failure) == sqlite3.SQLITE_BUSY
        ):
            return [failure] * len(writes)
        return self._one_by_one(writes)

    def step(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Do a piece of housekeeping in a transaction of its own. Raises what it fails with."""
        try:
            return self._transaction(work)
        except TransactionLost as error:
            raise _cause(error) from None

    def aside(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Do a piece of housekeeping that cannot be in a transaction."""
        return work(self._connected())

    def _one_by_one(self, writes: Sequence[Write]) -> list[Failure]:
        results: list[Failure] = []
        failed = 0
        for write in writes:
            if failed == _ENOUGH:
                results.append(results[-1])
                continue
            [result] = self.apply([write])
            failed = failed + 1 if result is not None and not isinstance(result, Refusal) else 0
            results.append(result)
        return results

    def _transaction(self, work: Callable[[sqlite3.Connection], T]) -> T:
        connection = self._connected()
        try:
            connection.execute("BEGIN IMMEDIATE")
            result = work(connection)
            connection.execute("COMMIT")
        except BaseException as error:
            self._recover(connection, _cause(error))
            raise
        return result

    def _recover(self, connection: sqlite3.Connection, error: BaseException) -> None:
        good = faults.is_still_good(error)
        self._suspect = self._suspect or faults.is_damage(error)
        try:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
        except sqlite3.Error:
            good = False
        if not good:
            self.close()

    def _connected(self) -> sqlite3.Connection:
        """The connection, to the file that the path names now: one that was removed would take writes without a word."""
        identity = self._database.identity()
        if self._connection is not None and identity == self._identity:
            return self._connection
        self.close()
        if self._suspect:
            self.open()
        elif identity != self._identity or identity is None:
            _log.error("store_file_gone", path=str(self._database.path))
            self.open()
        else:
            try:
                self._connection = self._database.connect()
            except sqlite3.Error as error:
                self._suspect = faults.is_damage(error)
                raise
        if self._connection is None:
            raise StoreError(f"{self._database.path} cannot be used")
        return self._connection


def _attempt(connection: sqlite3.Connection, write: Write) -> Failure:
    """Apply one write, all or nothing. Raises `TransactionLost` when that takes the other writes along."""
    connection.execute("SAVEPOINT one")
    try:
        for change in write:
            change.apply(connection)
        connection.execute("RELEASE one")
    except Exception as error:
        if not connection.in_transaction or faults.primary(error) not in {0, sqlite3.SQLITE_CONSTRAINT}:
            raise TransactionLost from error
        connection.execute("ROLLBACK TO one")
        connection.execute("RELEASE one")
        return error
    return None


def _cause(error: BaseException) -> Exception:
    """What went wrong underneath."""
    cause = error.__cause__ if isinstance(error, TransactionLost) else error
    return cause if isinstance(cause, Exception) else TransactionLost()
