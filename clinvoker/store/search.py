"""The word index over what was asked and answered.

It holds no text, only words, so a turn must be taken out with the very text that was put in. Scripts that are written
without spaces are indexed by the character and looked for as phrases.
"""

import re
import sqlite3

from clinvoker.logs import get_logger

_MOST_CHARACTERS = 262_144
"""Of each prompt and each answer this much is indexed: a longer one must not hold up the writers."""

_MOST_TERMS = 32
_log = get_logger("clinvoker.store")
_UNSPACED = re.compile(
    "[\u0e00-\u0e7f\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003134f]"
)
_TERM = re.compile(r'"([^"]*)"?|(\S+)')


def index_turn(connection: sqlite3.Connection, key: int, prompt: str, output: str) -> None:
    """Make a turn findable."""
    connection.execute(
        "INSERT INTO turn_words (rowid, prompt, output) VALUES (?, ?, ?)",
        (key, _words(prompt), _words(output)),
    )


def unindex_turn(connection: sqlite3.Connection, key: int, prompt: str, output: str) -> None:
    """Take a turn out again."""
    connection.execute(
        "INSERT INTO turn_words (turn_words, rowid, prompt, output) VALUES ('delete', ?, ?, ?)",
        (key, _words(prompt), _words(output)),
    )


def heal(connection: sqlite3.Connection) -> None:
    """Check the index, and make it anew from the turns if it is damaged: it holds nothing that they do not."""
    try:
        connection.execute("INSERT INTO turn_words (turn_words) VALUES ('integrity-check')")
    except sqlite3.DatabaseError as error:
        if error.sqlite_errorcode != sqlite3.SQLITE_CORRUPT_VTAB:
            raise
    else:
        return
    _log.warning("search_index_damaged", cure="made anew")
    connection.execute("BEGIN IMMEDIATE")
    try:
        connection.execute("INSERT INTO turn_words (turn_words) VALUES ('delete-all')")
        for turn in connection.execute(
            "SELECT key, prompt, output FROM turns WHERE ended IS NOT NULL ORDER BY key"
        ):
            index_turn(connection, *turn)
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def as_match(q: str) -> str:
    """What people type, as an expression of the index. Empty: nothing can be found by that."""
    terms: list[str] = []
    for match in _TERM.finditer(q):
        text = _words(match[1] if match[1] is not None else match[2])
        if any(character.isalnum() for character in text):
            terms.append(f'"{text.replace(chr(34), " ").replace(chr(0), " ")}"')
    return " ".join(terms[:_MOST_TERMS])


def _words(text: str) -> str:
    text = text[:_MOST_CHARACTERS]
    return text if text.isascii() else _UNSPACED.sub(r" \g<0> ", text)
