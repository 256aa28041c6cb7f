"""Tokens that owners used, by the day (UTC, counted from 1970): what daily budgets are reckoned from."""

import sqlite3


def add_spending(connection: sqlite3.Connection, use: str, owner: str, day: int, tokens: int) -> None:
    """Store one use, once; what is older than yesterday goes."""
    connection.execute("DELETE FROM spending WHERE day < ?", (day - 1,))
    connection.execute("INSERT OR IGNORE INTO spending VALUES (?, ?, ?, ?)", (use, owner, day, tokens))


def spending(connection: sqlite3.Connection, day: int) -> dict[str, int]:
    """Tokens used on that day, by owner."""
    query = "SELECT owner, sum(tokens) FROM spending WHERE day = ? GROUP BY owner"
    return dict(connection.execute(query, (day,)).fetchall())
