"""A process that writes to a store until it is killed, and says on its output what was acknowledged.

python -m tests.store.writing DIRECTORY ROUND
"""

import os
import sys
from itertools import count

import trio

from clinvoker.store import (
    AddTurn,
    BeginRun,
    FinishRun,
    FinishTurn,
    PutSession,
)
from tests.store.support import NOW, a_last_event, a_run, a_session, a_turn, open_store, some_events

WRITERS = 8


async def converse(store, first):
    """One session after the other, one turn each: every step is told only once it is acknowledged."""
    for step in count():
        number = first + step * WRITERS
        session, run = a_session(number), a_run(number)
        tell("session", number)
        await store.write(PutSession(session), BeginRun(run), AddTurn(a_turn(session, run=run.id)))
        tell("begun", number)
        for seq in (1, 11, 21):
            await store.write(some_events(run, seq, seq + 9))
            tell("events", number, seq + 9)
        await store.write(
            a_last_event(run, 31),
            FinishTurn(session.id, run.id, NOW, output="done"),
            FinishRun(run.id, "complete", NOW),
        )
        tell("done", number)


def tell(*words):
    os.write(1, (" ".join(map(str, words)) + "\n").encode())


async def main(directory, the_round):
    async with open_store(directory) as store, trio.open_nursery() as nursery:
        for writer in range(WRITERS):
            nursery.start_soon(converse, store, int(the_round) * 100_000 + writer + 1)


if __name__ == "__main__":
    trio.run(main, *sys.argv[1:])
