"""Directories for agents: private, and removed with all that an agent left in them."""

import shutil
import tempfile
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import trio

REMOVE = 2.0
"""Seconds that removing a process's directory may hold up its end; the thread goes on by itself after that."""

_removing = trio.CapacityLimiter(4)


@asynccontextmanager
async def scratch_directory() -> AsyncGenerator[str]:
    """A private directory, removed with all that agents left in it when the block is left."""
    path = tempfile.mkdtemp(prefix="clinvoker-")
    try:
        yield path
    finally:
        with trio.CancelScope(shield=True, deadline=trio.current_time() + REMOVE):
            await remove_directory(path)


def make_directory(directory: str) -> None:
    """Make the agent's own directory for temporary files; not in a thread, for all of them may be taken."""
    Path(directory).mkdir(parents=True, exist_ok=True)


async def remove_directory(path: str) -> None:
    """Remove a directory in a thread: an agent may have left a whole tree, and the event loop must not wait for it."""
    await trio.to_thread.run_sync(
        partial(shutil.rmtree, path, ignore_errors=True), abandon_on_cancel=True, limiter=_removing
    )
