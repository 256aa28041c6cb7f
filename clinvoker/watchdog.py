"""Two watchdogs: one asks every static actor whether its loop still turns, one watches the event loop from a thread."""

import faulthandler
import sys
import threading
import time
import traceback
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from types import FrameType

import trio

from actors.actor import Ping
from actors.errors import ActorDied, Refusal
from actors.mailbox import Ref
from clinvoker.logs import get_logger

EVERY = 5.0
PATIENCE = 15.0
"""Seconds in which an actor must answer, before the daemon ends loudly."""
FULL = 0.1
"""Seconds after which an actor whose mailbox is full is asked again."""
BLOCKED = 1.0
"""Seconds that synchronous code may hold the event loop before its stack is logged."""
DEEPEST = 12
"""Calls of that stack that are logged, the innermost first."""

_log = get_logger("clinvoker.watchdog")


class ActorStuck(Exception):  # noqa: N818 - named for its condition
    """An actor's loop no longer turns; the daemon cannot go on."""


async def watch_actors(refs: Sequence[Ref], *, every: float = EVERY, patience: float = PATIENCE) -> None:
    """Ask every actor in turn, `every` so many seconds, until cancelled. Raises `ActorStuck`."""
    while True:
        await trio.sleep(every)
        for ref in refs:
            try:
                with trio.fail_after(patience):
                    await _wait_answered(ref)
            except trio.TooSlowError:
                _log.error("actor stuck", actor=ref.name, seconds=patience)
                with suppress(
                    OSError, ValueError, AttributeError, RuntimeError
                ):  # standard error may be closed
                    faulthandler.dump_traceback()
                raise ActorStuck(f"{ref.name} has not answered for {patience:g} s") from None


async def _wait_answered(ref: Ref) -> None:
    while True:
        try:
            await ref.ask(Ping())
        except ActorDied:
            return  # between two incarnations: its supervisor knows
        except Refusal:
            await trio.sleep(FULL)
        else:
            return


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
        told = 0.0
        while not over.wait(blocked / 2):
            since = beat[0]
            held = time.monotonic() - since
            if held > blocked and since != told:  # once for each time
                told = since
                frame = sys._current_frames().get(thread)  # noqa: SLF001 # pyright: ignore[reportPrivateUsage] - the documented way to a thread's stack
                where = [f"{call.filename}:{call.lineno} {call.name}" for call in _stack(frame)]
                _log.error("event loop blocked", seconds=round(held, 1), stack=where)

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


def _stack(frame: FrameType | None) -> Iterator[traceback.FrameSummary]:
    """The calls of a stack, the innermost first."""
    if frame is not None:
        yield from reversed(traceback.extract_stack(frame, DEEPEST))
