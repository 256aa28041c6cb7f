"""Where the database lives: a directory and files that are the user's alone, and where a damaged file is put."""

import os
import stat
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from clinvoker.store.errors import StoreError

NAME = "state.db"
COMPANIONS = ("-wal", "-shm", "-journal")
"""What SQLite keeps beside a database: it belongs to the file and goes where the file goes."""


def prepare_directory(directory: Path) -> None:
    """Create the directory (0700) if need be. Raises `StoreError` if others could write in it."""
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = directory.stat()
    except OSError as error:
        raise StoreError(f"{directory} cannot be used: {error.strerror}") from None
    if found.st_uid != os.geteuid():
        raise StoreError(f"{directory} belongs to another user (uid {found.st_uid})")
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise StoreError(f"{directory} can be written by others: chmod go-w it")


def prepare_files(path: Path) -> None:
    """Create the database file if need be; it and its companions are for their owner only (0600), whatever the umask."""
    try:
        # An existing file is not opened here: closing it would end the locks that this process has on it.
        if not path.exists():
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        for suffix in ("", *COMPANIONS):
            with suppress(FileNotFoundError):
                _beside(path, suffix).chmod(0o600)
    except OSError as error:
        raise StoreError(f"{path} cannot be used: {error.strerror}") from None


def set_aside(path: Path, now: float) -> Path:
    """Rename a damaged database, with its companions, to a name that says so and when; return the new path."""
    moment = datetime.fromtimestamp(now, UTC).strftime("%Y%m%dT%H%M%SZ")
    target = path.with_name(f"{path.name}.corrupt-{moment}")
    count = 1
    while target.exists() or _beside(target, "-wal").exists():
        count += 1
        target = path.with_name(f"{path.name}.corrupt-{moment}-{count}")
    try:
        for suffix in ("", *COMPANIONS):
            with suppress(FileNotFoundError):
                _beside(path, suffix).rename(_beside(target, suffix))
    except OSError as error:
        raise StoreError(f"{path} is damaged and cannot be set aside: {error.strerror}") from None
    return target


def size_of(path: Path) -> int:
    """The file's size; 0 without one."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def leftover(path: Path) -> bool:
    """Whether a write-ahead log with content waits beside a database that has none: SQLite would drop it silently."""
    return size_of(path) == 0 and size_of(_beside(path, "-wal")) > 0


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)
