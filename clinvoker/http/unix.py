"""A Unix socket in the place of a port: the kernel says who connects."""

import errno
import os
import socket
import stat
import struct
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path

import trio

from clinvoker.http.sockets import BACKLOG, SEND_BUFFER_BYTES, BindError

_CREDENTIALS = struct.Struct("3i")
"""Process, user and group of the peer (SO_PEERCRED, unix(7))."""


def bind_unix(path: str, mode: int = 0o600) -> socket.socket:
    """Return a listening socket at `path` with that mode. One that nobody listens on any more gives way.

    Raises:
        BindError: somebody listens there, something else is there, or the directory cannot be written.
    """
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _remove_stale(path)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
        listener.bind(path)
        # Before it listens: nobody can have connected with wider permissions.
        Path(path).chmod(mode)
        listener.listen(BACKLOG)
        listener.setblocking(False)  # noqa: FBT003 - the standard library's signature
    except OSError as error:
        listener.close()
        if error.errno is None:  # Python's own: the path is too long
            error = OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))
        raise BindError(path, error) from None
    return listener


@contextmanager
def closing_all(listeners: list[socket.socket]) -> Generator[None]:
    """Close the sockets when the block is left, and remove the files of Unix sockets, unless others listen there by then."""
    paths = [listener.getsockname() for listener in listeners if listener.family == socket.AF_UNIX]
    try:
        yield
    finally:
        for listener in listeners:
            listener.close()
        for path in paths:
            with suppress(OSError):
                _remove_stale(path)


def peer_uid(connected: trio.socket.SocketType) -> int:
    """The user whose process connected."""
    data = connected.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    return _CREDENTIALS.unpack(data)[1]


def _remove_stale(path: str) -> None:
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise OSError(errno.EEXIST, "something that is no socket is there")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)  # noqa: FBT003 - as above; a full backlog is somebody's as well
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            Path(path).unlink()
        except BlockingIOError:
            raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE)) from None
        else:
            raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))
