"""The command, with one part of the daemon broken on purpose.

    python -m tests.faults.sabotaged WHAT serve --config FILE

`poisoned` makes the limiter crash on every message, `stuck` makes it wait for ever on one, `blocked` holds the event loop
for 1.5 s, `exhausted` fills trio's thread pool.
"""

import sys
import time

import trio

from actors.limiter import Limiter
from clinvoker import cli, daemon, watchdog


async def poisoned(*_):
    raise RuntimeError("poisoned on purpose")


async def stuck(*_):
    await trio.sleep_forever()


class Beside:
    """What runs beside the daemon: in the place of the watch over its actors, which goes on."""

    def __init__(self, sabotage):
        self._watch = daemon.watch_actors
        self._sabotage = sabotage

    async def __call__(self, refs):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._watch, refs)
            nursery.start_soon(self._sabotage)


async def hold_the_loop():
    await trio.sleep(0.5)
    time.sleep(1.5)  # noqa: ASYNC251 - that is the fault


async def exhaust_threads():
    async with trio.open_nursery() as nursery:
        for _ in range(60):
            nursery.start_soon(trio.to_thread.run_sync, time.sleep, 4)


async def watch_impatiently(refs):
    await watchdog.watch_actors(refs, every=0.3, patience=0.6)


def main(what, *arguments):
    match what:
        case "poisoned":
            Limiter.admit = poisoned
        case "stuck":
            Limiter.admit = stuck
            daemon.watch_actors = watch_impatiently
        case "blocked":
            daemon.watch_actors = Beside(hold_the_loop)
        case "exhausted":
            daemon.watch_actors = Beside(exhaust_threads)
    return cli.main(arguments)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
