"""Reading from a process: whole lines of what it prints, and not one wait more than there is to wait for."""

import math
import os

import trio

from actors.lines import LineSplitter

READ_SIZE = 64 * 1024
"""Bytes per read, and what a pipe holds (pipe(7)): a process that has ended cannot have left more in it."""


class Output:
    """The lines of a pipe, in batches: all that one read completes; an async iterator for one task at a time.

    Ends at end of file. Once the process has ended (`process_ended`) it ends `drain_s` seconds later at the latest, as a
    grandchild may hold the pipe for ever; but what the process itself wrote is never lost, however late it is read.
    """

    def __init__(self, fd: int, drain_s: float, limit: int) -> None:
        self._fd = fd
        self._drain_s = drain_s
        self._splitter = LineSplitter(limit)
        self._waiting = trio.CancelScope()
        self._until = math.inf
        self._late = 0
        self._ended = False

    @property
    def oversize(self) -> int:
        """How many lines were too long and dropped."""
        return self._splitter.oversize

    def __aiter__(self) -> "Output":
        return self

    async def __anext__(self) -> list[bytes]:
        while not self._ended:
            await trio.lowlevel.checkpoint_if_cancelled()
            data = read(self._fd)
            if data is None:
                if await self._readable():
                    continue
            else:
                # Others get their turn, but a cancellation waits for the next call: here it would lose the data.
                await trio.lowlevel.cancel_shielded_checkpoint()
            lines = self._splitter.feed(data) if data and self._in_time(data) else self._finish()
            if lines:
                return lines
        raise StopAsyncIteration

    def process_ended(self) -> None:
        """Read what is in the pipe, but what others still write to it only for a while."""
        self._until = self._waiting.deadline = trio.current_time() + self._drain_s

    async def discard(self) -> None:
        """Read and forget until the end of file; who reads in another task finds the output ended."""
        self._ended = True
        trio.lowlevel.notify_closing(self._fd)
        while True:
            await trio.lowlevel.wait_readable(self._fd)
            if read(self._fd) == b"":
                return

    async def _readable(self) -> bool:
        """Wait until there is something to read; return False if that will not be."""
        with trio.CancelScope(deadline=self._until) as self._waiting:
            try:
                await trio.lowlevel.wait_readable(self._fd)
            except trio.ClosedResourceError:
                return False
        return not self._waiting.cancelled_caught

    def _in_time(self, data: bytes) -> bool:
        # After `_until` only what the process itself may have left in the pipe, which a late reader has not yet seen.
        if trio.current_time() > self._until:
            self._late += len(data)
        return self._late <= READ_SIZE

    def _finish(self) -> list[bytes]:
        self._ended = True
        return self._splitter.finish()


def read(fd: int) -> bytes | None:
    """Return what there is to read, nothing at end of file, None if one must wait for it."""
    try:
        return os.read(fd, READ_SIZE)
    except BlockingIOError:
        return None
