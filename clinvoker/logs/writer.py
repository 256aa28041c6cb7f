"""Writing lines to a descriptor that may be a terminal, a full pipe, a full disk, or gone: never waits, never raises."""

import os
import select
import socket
import stat
import threading
from collections.abc import Callable
from typing import Final, Protocol

# How long a line waits for another thread's; only a signal handler that logs inside a log call ever waits in vain.
_TURN_SECS: Final = 0.1


class HasFileno(Protocol):
    """Anything with a descriptor, such as `sys.stderr`."""

    def fileno(self) -> int:
        """Return the descriptor."""
        ...


class LineWriter:
    """Writes whole lines, or drops and counts them in `dropped` when the other end cannot take them now.

    The descriptor is our own: closing the stream, or a new file that takes its number, does not redirect the log.
    O_NONBLOCK would be shared with whoever else has the stream (the user's shell), so it is set only on a description
    of our own. Of a line that was taken in part, the rest goes out before the next one: at most one line is kept.
    Safe to use from any thread.
    """

    def __init__(self, stream: HasFileno | None) -> None:
        self.dropped = 0
        self._rest = b""
        self._lock = threading.Lock()
        self._write, self._close = _sink(stream)

    def line(self, text: str) -> None:
        """Write `text` and a newline, or drop it."""
        data = text.encode("utf-8", "backslashreplace") + b"\n"
        if not self._lock.acquire(timeout=_TURN_SECS):
            self.dropped += 1
            return
        try:
            self._flush()
            if self._rest:
                self.dropped += 1
                return
            self._rest = data
            self._flush()
            if len(self._rest) == len(data):
                self._rest = b""
                self.dropped += 1
        finally:
            self._lock.release()

    def close(self) -> None:
        """Give the descriptor back; later lines are dropped."""
        with self._lock:
            self._close()
            self._write, self._close = _no_sink()

    def _flush(self) -> None:
        while self._rest:
            try:
                taken = self._write(self._rest)
            except OSError:  # full, gone, not allowed: whatever it is, the work goes on without the log
                return
            if not taken:
                return
            self._rest = self._rest[taken:]


# Takes bytes, returns how many were taken; and what closes it.
_Sink = tuple[Callable[[bytes], int], Callable[[], None]]


def _sink(stream: HasFileno | None) -> _Sink:
    """Choose how to write without waiting, by what the stream is."""
    try:
        shared = -1 if stream is None else stream.fileno()
        mode = os.fstat(shared).st_mode
        own = os.dup(shared)  # not inherited by the agents
    except (OSError, ValueError):  # closed, or a stream without a descriptor
        return _no_sink()
    if stat.S_ISSOCK(mode):  # the journal of systemd
        sock = socket.socket(fileno=own)
        return lambda data: sock.send(data, socket.MSG_DONTWAIT), sock.close
    if stat.S_ISREG(mode):  # never waits; the position stays shared, so others' lines are not overwritten
        return lambda data: os.write(own, data), lambda: os.close(own)
    try:
        path = f"/proc/self/fd/{own}"
        reopened = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_APPEND | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:  # no /proc, or the terminal belongs to another user
        return lambda data: _write_if_ready(own, data), lambda: os.close(own)
    os.close(own)
    return lambda data: os.write(reopened, data), lambda: os.close(reopened)


def _no_sink() -> _Sink:
    return lambda _data: 0, lambda: None


def _write_if_ready(descriptor: int, data: bytes) -> int:
    """Write to a blocking pipe or terminal what it has room for.

    A pipe that polls as writable takes PIPE_BUF bytes at once, unless another writer of the same pipe comes between.
    """
    poll = select.poll()
    poll.register(descriptor, select.POLLOUT)
    ready = any(events & select.POLLOUT for _, events in poll.poll(0))
    return os.write(descriptor, data[: select.PIPE_BUF]) if ready else 0
