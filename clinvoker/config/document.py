"""Reading the configuration file: bytes from a path become nested tables, or one line that says why not."""

import os
import re
import stat
import tomllib
from pathlib import Path
from typing import Any

from .errors import ConfigError

MAX_BYTES = 2**20


def read_document(path: Path) -> dict[str, Any]:
    """Parse the TOML file at `path`. Raises ConfigError; a file that is not there raises FileNotFoundError.

    Never waits: a pipe that nobody writes to is an error like any other.
    """
    data, _ = read_bytes(path)
    return parse_document(data, str(path))


def read_bytes(path: Path) -> tuple[bytes, os.stat_result]:
    """Return what the file at `path` holds and its status, both of the same file. Raises as `read_document` does."""
    try:
        return _read(path)
    except FileNotFoundError:
        raise
    except (OSError, ValueError) as error:
        reason = (error.strerror or "unreadable") if isinstance(error, OSError) else str(error)
        raise ConfigError(str(path), f"cannot be read: {reason}") from None


def _read(path: Path) -> tuple[bytes, os.stat_result]:
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
        status = os.fstat(file.fileno())
        if not (
            stat.S_ISREG(status.st_mode) or stat.S_ISCHR(status.st_mode)
        ):  # /dev/null is a fine configuration
            raise ValueError("it is not a file")
        data = file.read(MAX_BYTES + 1) or b""
    if len(data) > MAX_BYTES:
        raise ValueError(f"it is larger than {MAX_BYTES} bytes")
    return data, status


def parse_document(data: bytes, where: str) -> dict[str, Any]:
    """Parse TOML from `where`. Raises ConfigError."""
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError(where, f"line {line}: not UTF-8") from None
    try:
        return tomllib.loads(text.removeprefix("\ufeff"))
    except RecursionError:
        raise ConfigError(where, "nested too deeply") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(where, _with_line(str(error), text)) from None
    except ValueError as error:  # a number or date beyond what Python holds
        raise ConfigError(where, str(error).partition(";")[0]) from None


def _with_line(message: str, text: str) -> str:
    """Put the line first: tomllib appends `(at line 3, column 8)`, or `(at end of document)` without a number."""
    problem, _, place = message.rpartition(" (at ")
    found = re.match(r"line (\d+)", place)
    line = found[1] if found else len(text.rstrip("\n").split("\n"))
    return f"line {line}: {problem[:1].lower()}{problem[1:]}"
