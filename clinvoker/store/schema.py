"""The database's schema, as the ordered steps that lead to it.

A step is never changed once released: add another. `PRAGMA user_version` counts the steps that a database has seen.

Keys are small integers of our own, ids are the ones that callers see. A turn's key is its session's key and its
number in one integer, so that a hit in the word index tells the session without a look at the turns. Every index is
covering for what it is for: a page, however far down, and its total are read from one index alone.
"""

import sqlite3

TURN_BITS = 20
"""Low bits of a turn's key: its number within the session."""

MIGRATIONS = (
    f"""
    CREATE TABLE sessions (
        key INTEGER PRIMARY KEY,
        id TEXT NOT NULL UNIQUE,
        owner TEXT NOT NULL,
        backend TEXT NOT NULL,
        options BLOB NOT NULL,
        workdir TEXT NOT NULL,
        model TEXT NOT NULL,
        title TEXT NOT NULL,
        tags BLOB NOT NULL,
        metadata BLOB NOT NULL,
        status TEXT NOT NULL,
        conversation TEXT,
        parent TEXT,
        turns INTEGER NOT NULL DEFAULT 0,
        created REAL NOT NULL,
        updated REAL NOT NULL
    ) STRICT;
    CREATE INDEX sessions_by_owner ON sessions (owner, id);
    CREATE INDEX sessions_by_page ON sessions (owner, updated, key, backend, status);
    CREATE INDEX sessions_by_age ON sessions (updated, status);
    CREATE INDEX sessions_running ON sessions (key) WHERE status = 'running';

    CREATE TABLE session_tags (
        owner TEXT NOT NULL,
        tag TEXT NOT NULL,
        updated REAL NOT NULL,
        key INTEGER NOT NULL REFERENCES sessions (key) ON DELETE CASCADE,
        backend TEXT NOT NULL,
        status TEXT NOT NULL,
        PRIMARY KEY (owner, tag, updated, key)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX session_tags_by_session ON session_tags (key);
    CREATE TRIGGER session_tags_follow AFTER UPDATE OF updated, status ON sessions BEGIN
        UPDATE session_tags SET updated = new.updated, status = new.status WHERE key = new.key;
    END;

    CREATE TABLE turns (
        key INTEGER PRIMARY KEY,
        session INTEGER NOT NULL REFERENCES sessions (key),
        run TEXT NOT NULL,
        prompt TEXT NOT NULL,
        output TEXT NOT NULL DEFAULT '',
        code TEXT,
        message TEXT NOT NULL DEFAULT '',
        usage BLOB,
        started REAL NOT NULL,
        ended REAL,
        CHECK (key >> {TURN_BITS} = session)
    ) STRICT;
    CREATE INDEX turns_by_session ON turns (session);
    CREATE INDEX turns_open ON turns (key) WHERE ended IS NULL;

    CREATE TABLE runs (
        key INTEGER PRIMARY KEY,
        id TEXT NOT NULL UNIQUE,
        session TEXT,
        owner TEXT NOT NULL,
        kind TEXT NOT NULL,
        backend TEXT NOT NULL,
        status TEXT NOT NULL,
        began REAL NOT NULL,
        ended REAL,
        outcome BLOB NOT NULL DEFAULT x'',
        idempotency_key TEXT,
        body_hash BLOB NOT NULL DEFAULT x''
    ) STRICT;
    CREATE INDEX runs_by_session ON runs (session);
    CREATE INDEX runs_by_age ON runs (began, status);
    CREATE INDEX runs_running ON runs (key) WHERE status = 'running';
    CREATE UNIQUE INDEX runs_by_idempotency_key ON runs (owner, idempotency_key) WHERE idempotency_key IS NOT NULL;

    CREATE TABLE events (
        key INTEGER PRIMARY KEY,
        run INTEGER NOT NULL REFERENCES runs (key) ON DELETE CASCADE,
        first_seq INTEGER NOT NULL,
        last_seq INTEGER NOT NULL,
        lines BLOB NOT NULL
    ) STRICT;
    CREATE UNIQUE INDEX events_by_run ON events (run, last_seq, first_seq);

    CREATE VIRTUAL TABLE turn_words USING fts5 (
        prompt, output, content = '', columnsize = 0, tokenize = 'unicode61 remove_diacritics 2'
    );
    """,  # noqa: S608 - a constant
    """
    CREATE TABLE spending (
        id TEXT PRIMARY KEY,
        owner TEXT NOT NULL,
        day INTEGER NOT NULL,
        tokens INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX spending_by_day ON spending (day, owner, tokens);
    CREATE TABLE filings (
        hash BLOB PRIMARY KEY,
        session INTEGER NOT NULL REFERENCES sessions (key) ON DELETE CASCADE,
        turns INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX filings_by_session ON filings (session);
    """,
    """
    CREATE TABLE notes (
        run INTEGER NOT NULL REFERENCES runs (key) ON DELETE CASCADE,
        after INTEGER NOT NULL,
        note BLOB NOT NULL,
        PRIMARY KEY (run, after)
    ) STRICT, WITHOUT ROWID;
    """,
)

VERSION = len(MIGRATIONS)


def migrate(connection: sqlite3.Connection, version: int) -> None:
    """Take a database of `version` to ours, each step all or nothing."""
    for number, script in enumerate(MIGRATIONS[version:], version + 1):
        try:
            connection.executescript(f"BEGIN IMMEDIATE;{script};PRAGMA user_version = {number};COMMIT;")
        except BaseException:
            if connection.in_transaction:
                connection.rollback()
            raise


def is_ours(connection: sqlite3.Connection) -> bool:
    """Whether the schema is, to the letter, what the steps lead to: damage may show nowhere else."""
    model = sqlite3.connect(":memory:", isolation_level=None)
    try:
        migrate(model, 0)
        return _declared(connection) == _declared(model)
    finally:
        model.close()


def _declared(connection: sqlite3.Connection) -> list[tuple[str, str, str]]:
    """What was declared here; the word index's inner tables are SQLite's own affair."""
    query = """
        SELECT type, name, ifnull(sql, '') FROM sqlite_master
        WHERE name NOT LIKE 'sqlite\\_stat%' ESCAPE '\\' AND name NOT LIKE 'turn\\_words\\_%' ESCAPE '\\'
        ORDER BY type, name
    """
    return connection.execute(query).fetchall()
