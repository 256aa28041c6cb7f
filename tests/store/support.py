"""What the tests of the store share: records with everything filled in, a store that runs, a database on its own."""

import os
from contextlib import asynccontextmanager, closing

from actors.messages import Complete, Entry, Message
from clinvoker.store import (
    AddTurn,
    BeginRun,
    Database,
    FinishTurn,
    PutSession,
    RunRecord,
    SessionRecord,
    Store,
    StoreClient,
    StoreLimits,
    TurnRecord,
    batch,
)
from tests.actors.support import running

NOW = 1_800_000_000.0
DAY = 86_400.0
MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
"""Where waiting for the disk costs nothing: for tests that open hundreds of databases."""
MOMENT = "2027-01-15T08:00:00.000Z"


def a_session(number=1, **fields):
    given = {
        "id": f"ses_{number:032x}",
        "owner": "me",
        "backend": "claude",
        "created": NOW,
        "updated": NOW + number,
    }
    return SessionRecord(**{**given, **fields})


def a_run(number=1, **fields):
    given = {"id": f"run_{number}", "owner": "me", "kind": "prompt", "backend": "claude", "began": NOW}
    return RunRecord(**{**given, **fields})


def a_turn(session, number=1, **fields):
    given = {"session": session.id, "number": number, "run": "run_1", "prompt": "what?", "started": NOW}
    return TurnRecord(**{**given, **fields})


def entries(run, first, last, session=""):
    return [
        Entry("message", "claude", Message(f"w{seq}"), MOMENT, run.id, seq, session)
        for seq in range(first, last + 1)
    ]


def some_events(run, first, last, session=""):
    return batch(entries(run, first, last, session))


def a_last_event(run, seq, task=None):
    complete = Complete("end_turn", output="done")
    entry = Entry("complete", "claude", complete, MOMENT, run.id, seq, "", *([] if task is None else [task]))
    return batch([entry])


def a_finished_turn(session, number=1, prompt="what?", output="that", **fields):
    return (
        AddTurn(a_turn(session, number, prompt=prompt)),
        FinishTurn(session.id, "run_1", NOW + number, output=output, **fields),
    )


class Clock:
    """A wall clock that the test sets."""

    def __init__(self, now=NOW):
        self.now = now

    def __call__(self):
        return self.now


def apply(connection, *changes):
    for change in changes:
        change.apply(connection)


def fresh(directory, clock=None):
    """A database with its writing connection, to be closed."""
    return closing(Database(directory, clock or Clock()).open())


@asynccontextmanager
async def open_store(directory, limits=None, *, clock=None, database=None, shutdown=5.0):
    """A store that runs until the block is left; yields its client, and the actor as `client.actor`."""
    limits = limits or StoreLimits()
    actor = Store(database or Database(directory, clock or Clock()), limits)
    async with running(actor, shutdown=shutdown) as one:
        await one.child.wait_up()
        client = StoreClient(one.ref)
        client.actor = actor
        client.one = one
        yield client


def sample(connection):
    """Two sessions, three turns, two runs, one of them still running."""
    first, second = (
        a_session(1, tags=("red", "blue"), title="one"),
        a_session(2, backend="codex", owner="you"),
    )
    done, going = a_run(1, session=first.id), a_run(2, session=second.id, owner="you", idempotency_key="k")
    apply(
        connection,
        PutSession(first),
        PutSession(second),
        BeginRun(done),
        BeginRun(going),
        *a_finished_turn(first, 1, "alpha", "beta " * 2000),
        *a_finished_turn(first, 2, "gamma", "delta"),
        AddTurn(a_turn(second, run="run_2", prompt="epsilon")),
        some_events(done, 1, 300),
        some_events(going, 1, 30),
    )
    return first, second, done, going
