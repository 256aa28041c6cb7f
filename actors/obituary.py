"""Telling why an agent's process did not start, or how it ended, without telling a secret."""

import re
import signal

from actors.errors import Code, Refusal
from actors.process import LaunchError, Process

LAST_WORDS = 2000
"""Characters of standard error that are told."""


def obituary(name: str, process: Process) -> str:
    """How the process ended and what it said last, with anything like a key left out."""
    code = process.returncode
    if code is None:
        how = "closed its output"
    elif code < 0:
        how = f"was killed by signal {-code} ({signal.Signals(-code).name})"
    else:
        how = f"ended with exit code {code}"
    last = _redact(process.stderr_tail.decode(errors="replace").strip()[-LAST_WORDS:])
    return f"{name} {how}" + (f": {last}" if last else "")


def why_not_launched(program: str, error: LaunchError) -> Refusal:
    """The refusal of everyone who waits for the process."""
    match error.kind:
        case "missing":
            return Refusal(Code.NOT_INSTALLED, f"{program} is not installed, or not on the PATH")
        case "cwd":
            return Refusal(Code.INVALID_REQUEST, error.message, param="workdir")
        case _:
            return Refusal(Code.BACKEND_UNAVAILABLE, error.message)


_SECRET = re.compile(r"(?i)(bearer\s+|sk-|key[-_=: ]+|token[-_=: ]+|AIza)[\w.\-]{8,}")


def _redact(text: str) -> str:
    return _SECRET.sub(r"\1[redacted]", text)
