"""One daemon per state directory."""

import fcntl
import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path


class StateError(Exception):
    """The state directory cannot be used; the message is one line for people."""


@contextmanager
def lock_state(state_dir: str) -> Generator[Path]:
    """Create the directory (0700) if need be and hold its lock. Raises `StateError`.

    The lock is the kernel's (flock), so it is gone with its holder, however that ended: a left-over file means nothing.
    """
    directory = Path(state_dir)
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StateError(f"{state_dir} cannot be used: {error.strerror}") from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.read(descriptor, 32).decode(errors="replace").strip() or "unknown"
        os.close(descriptor)
        raise StateError(f"already running (pid {holder}) on {state_dir}") from None
    try:
        os.truncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield directory
    finally:
        os.close(descriptor)
