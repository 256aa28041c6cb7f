"""Connections that only read: opened when needed, kept, and given up after a fault. Used on worker threads."""

import sqlite3
import time
from collections import deque

from actors.errors import Refusal
from clinvoker.store.database import Database
from clinvoker.store.queries import Read, T_co

_MOST_SECONDS = 5.0
"""A query that takes longer is broken off: it cannot be cancelled, and holds one of few threads."""

_STEPS = 100_000
"""SQLite's own steps between two looks at the clock."""


class Readers:
    """The idle reading connections; a query takes one, or opens one more."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._idle: deque[tuple[sqlite3.Connection, tuple[int, int] | None]] = deque()
        self._closed = False

    def answer(self, question: Read[T_co]) -> T_co:
        """Answer a question from what is committed now."""
        connection, identity = self._take()
        try:
            deadline = time.monotonic() + _MOST_SECONDS
            connection.set_progress_handler(lambda: time.monotonic() > deadline, _STEPS)
            answer = question.query(connection)
        except Refusal:
            self._put_back(connection, identity)
            raise
        except BaseException:
            connection.close()
            raise
        self._put_back(connection, identity)
        return answer

    def close(self) -> None:
        """Close what is idle, and what comes back from now on."""
        self._closed = True
        while self._idle:
            self._idle.pop()[0].close()

    def _take(self) -> tuple[sqlite3.Connection, tuple[int, int] | None]:
        identity = self._database.identity()
        while True:
            try:
                connection, known = self._idle.pop()
            except IndexError:
                return self._database.reader(), identity
            if known == identity:
                return connection, identity
            connection.close()

    def _put_back(self, connection: sqlite3.Connection, identity: tuple[int, int] | None) -> None:
        self._idle.append((connection, identity))
        if self._closed:
            self.close()
