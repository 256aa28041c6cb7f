"""Sessions, turns, runs and events in SQLite: what outlives a connection, an agent, and the daemon.

client       how everyone uses the store: `await store.write(...)`, `await store.sessions(...)`
actor        the owner of all connections: group commit, reads beside it, housekeeping
changes      what can be changed: frozen structs that apply themselves
queries      what can be asked: frozen structs that answer themselves
lines        how an event is stored
records      what goes in and comes out
sessions, filings, turns, runs, events, notes, spending, listing, search, retention, interrupted
             plain functions over a connection, by what they are about
database     opening: checked, migrated, damaged files set aside; place: directory and file modes
schema       the migrations
writer, readers   connections, on worker threads; faults: what SQLite's errors mean
"""

from .actor import Store, StoreLimits
from .changes import (
    AbandonRun,
    AddNote,
    AddSpending,
    AddTurn,
    AppendEvents,
    BeginRun,
    Change,
    DeleteSession,
    EditSession,
    FileSession,
    FinishRun,
    FinishTurn,
    ForkSession,
    PutSession,
    SetConversation,
)
from .client import StoreClient, batch
from .database import Database
from .errors import StoreError
from .lines import decode_entries
from .records import (
    Ambiguous,
    RunRecord,
    RunStatus,
    SessionFilter,
    SessionPage,
    SessionRecord,
    SessionStatus,
    StoreCounts,
    TurnRecord,
)

__all__ = [
    "AbandonRun",
    "AddNote",
    "AddSpending",
    "AddTurn",
    "Ambiguous",
    "AppendEvents",
    "BeginRun",
    "Change",
    "Database",
    "DeleteSession",
    "EditSession",
    "FileSession",
    "FinishRun",
    "FinishTurn",
    "ForkSession",
    "PutSession",
    "RunRecord",
    "RunStatus",
    "SessionFilter",
    "SessionPage",
    "SessionRecord",
    "SessionStatus",
    "SetConversation",
    "Store",
    "StoreClient",
    "StoreCounts",
    "StoreError",
    "StoreLimits",
    "TurnRecord",
    "batch",
    "decode_entries",
]
