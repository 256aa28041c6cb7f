"""Directories for agents: private, and removed with all that an agent left in them.

Their names tell whose they are, so that what a killed daemon leaves is found by the next one.
"""

import os
import shutil
import tempfile
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path

import trio

from actors.marker import owner_alive

PREFIX = "clinvoker-"

REMOVE = 2.0
"""Seconds that removing a process's directory may hold up its end; the thread goes on by itself after that."""

SWEEP = 30.0
"""Seconds for removing what dead daemons left; a tree too large for that is gone on with at the next start."""

_removing = trio.CapacityLimiter(4)


@asynccontextmanager
async def scratch_directory(marker: str) -> AsyncGenerator[str]:
    """A private directory for the process with this marker, removed with all that agents left in it when the block is left."""
    path = _make_directory(marker)
    try:
        yield path
    finally:
        with trio.CancelScope(shield=True, deadline=trio.current_time() + REMOVE):
            await remove_directory(path)


def _make_directory(marker: str) -> str:
    """Make a directory that is told by its real path, as agents are started in no other."""
    instance, dash, _ = marker.rpartition("-")
    return os.path.realpath(tempfile.mkdtemp(prefix=f"{PREFIX}{instance}{dash}"))


def make_directory(directory: str) -> None:
    """Make the agent's own directory for temporary files; not in a thread, for all of them may be taken."""
    Path(directory).mkdir(parents=True, exist_ok=True)


async def remove_dead_directories() -> None:
    """Remove the directories of daemons that no longer live; none of one that may be alive."""
    with trio.move_on_after(SWEEP), suppress(OSError):
        for path in await trio.to_thread.run_sync(
            _dead_directories, abandon_on_cancel=True, limiter=_removing
        ):
            await remove_directory(path)


def _dead_directories() -> list[str]:
    everything = Path(tempfile.gettempdir()).glob(f"{PREFIX}*")
    return [str(path) for path in everything if not owner_alive(path.name.removeprefix(PREFIX))]


async def remove_directory(path: str) -> None:
    """Remove a directory in a thread: an agent may have left a whole tree, and the event loop must not wait for it."""
    await trio.to_thread.run_sync(
        partial(shutil.rmtree, path, ignore_errors=True), abandon_on_cancel=True, limiter=_removing
    )
