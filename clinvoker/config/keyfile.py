"""`keys.toml` beside the configuration file: the keys that `clinvoker keys` writes, in tables `[keys.NAME]`.

A file of its own, because writing TOML loses its comments; and because it is there, a key is needed: who revokes the last
key has closed the daemon, not opened it.
"""

import fcntl
import os
import stat
import tempfile
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import tomli_w

from .document import parse_document, read_bytes
from .errors import ConfigError

HEADER = b"# Written by `clinvoker keys`, which keeps no comments. The keys themselves are nowhere: these are their hashes.\n\n"


def key_file(config: Path) -> Path:
    """Where the keys are that belong to this configuration file."""
    return config.with_name("keys.toml")


def read_keys(path: Path) -> dict[str, Any] | None:
    """Return the document in the file, None without one.

    Raises ConfigError, also if it is somebody else's, or more than its owner may look at it.
    """
    data = _read(path)
    return None if data is None else parse_document(data, str(path))


@contextmanager
def changing(path: Path) -> Generator[dict[str, Any]]:
    """Change the document in the file: what the block makes of it is written when the block is left well.

    Raises ConfigError if the file cannot be used, is being changed by another, or was changed in between.
    """
    real = Path(os.path.realpath(path))
    real.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    directory = os.open(real.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(directory, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigError(str(path), "is being changed by another command") from None
        before = _read(real)
        document = {} if before is None else parse_document(before, str(path))
        yield document
        _replace(real, HEADER + tomli_w.dumps(document).encode(), before)
    except OSError as error:
        raise ConfigError(str(path), f"cannot be changed: {error.strerror}") from None
    finally:
        os.close(directory)


def _replace(path: Path, data: bytes, before: bytes | None) -> None:
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)  # mode 0600
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        _check_unchanged(path, before)
        Path(name).replace(path)
    except BaseException:
        with suppress(OSError):
            Path(name).unlink()
        raise


def _check_unchanged(path: Path, before: bytes | None) -> None:
    if _read(path) != before:
        raise ConfigError(str(path), "was changed by somebody else in this moment; nothing was written")


def _read(path: Path) -> bytes | None:
    try:
        data, status = read_bytes(path)
    except FileNotFoundError:
        return None
    if status.st_uid not in {os.getuid(), 0}:
        raise ConfigError(str(path), "belongs to another user")
    if stat.S_IMODE(status.st_mode) & 0o077:
        raise ConfigError(str(path), "may be read or written by others; chmod 600 it")
    return data
