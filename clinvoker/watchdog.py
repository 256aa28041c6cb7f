"""Two watchdogs: one asks every static actor whether its loop still turns, one watches the event loop from a thread."""

import faulthandler
import sys
import threading
import time
from collections.abc import Generator, Iterable
from contextlib import contextmanager

import trio

from actors.actor import Ping
from actors.errors import ActorDied, Refusal
from actors.mailbox import Ref
from clinvoker.logs import get_logger

EVERY = 5.0
PATIENCE = 15.0
"""Seconds in which an actor must answer, before the daemon ends loudly."""
BLOCKED = 1.0
"""Seconds that synchronous code may hold the event loop before its stack is logged."""

_log = get_logger("clinvoker.watchdog")


class ActorStuck(Exception):  # noqa: N818 - named for its condition
    """An actor's loop no longer turns; the daemon cannot go on."""


async def watch_actors(refs: Sequence[Ref], *, every: float = EVERY, patience: float = PATIENCE) -> None:
    """Ask every actor, each time after `every` seconds, until cancelled. Raises `ActorStuck`."""
    while True:
        await trio.sleep(every)
        for ref in refs:
            try:
                with trio.fail_after(patience):
                    await ref.ask(Ping())
            except trio.TooSlowError:
                _log.error("actor stuck", actor=ref.name, seconds=patience)
                with suppress(OSError, ValueError, AttributeError):  # standard error may be closed
                    faulthandler.dump_traceback()
                raise ActorStuck(f"{ref.name} has not answered for {patience:g} s") from None
            except (ActorDied, Refusal):
                continue  # between two incarnations, or busy: its supervisor knows


@contextmanager
def watch_loop(*, blocked: float = BLOCKED) -> Generator[None]:
    """Log where the event loop's thread is when it is held for `blocked` seconds; to be entered in that thread."""
    beat = [time.monotonic()]
    over = threading.Event()
    thread = threading.get_ident()

    class Beat(trio.abc.Instrument):
        def before_io_wait(self, timeout: float) -> None:
            del timeout
            beat[0] = float("inf")

        def after_io_wait(self, timeout: float) -> None:
            del timeout
            beat[0] = time.monotonic()

    def watch() -> None:
        while not over.wait(BLOCKED / 2):
            held = time.monotonic() - beat[0]
            if held > BLOCKED:
                frame = sys._current_frames().get(thread)  # noqa: SLF001 # pyright: ignore[reportPrivateUsage] - the documented way to a thread's stack
                where = f"{frame.f_code.co_filename}:{frame.f_lineno}" if frame else "unknown"
                _log.error("event loop blocked", seconds=round(held, 1), where=where)

    instrument = Beat()
    trio.lowlevel.add_instrument(instrument)
    watcher = threading.Thread(target=watch, name="loop-watchdog", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        trio.lowlevel.remove_instrument(instrument)
        watcher.join()
