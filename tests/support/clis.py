"""The real agent CLIs at the versions the tests were written against, installed by npm when they are not there.

`python -m tests.support.clis` installs them and prints where they are.
"""

from __future__ import annotations

import fcntl
import json
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent / "clis"
_MODULES = ROOT / "node_modules"
_INSTALL_SECONDS = 600


@dataclass(frozen=True, slots=True)
class Clis:
    """What to execute, absolute: native binaries where they exist, for signals must reach the real process."""

    claude: tuple[str, ...]
    codex: tuple[str, ...]
    gemini: tuple[str, ...]
    opencode: tuple[str, ...]

    @property
    def bin(self) -> str:
        """The directory of links under the programs' own names, as a user has it on PATH."""
        return str(_MODULES / ".bin")


def ensure_installed() -> Clis:
    """Install what differs from package.json; a few milliseconds when nothing does."""
    if not _is_installed():
        with _lock():
            if not _is_installed():  # another process may have been first
                _install()
    return _locate()


def _is_installed() -> bool:
    wanted = json.loads((ROOT / "package.json").read_text())["dependencies"]
    for name, version in wanted.items():
        try:
            found = json.loads((_MODULES / name / "package.json").read_text())["version"]
        except (OSError, ValueError, KeyError):
            return False
        if found != version:
            return False
    return all(Path(argv[-1]).exists() for argv in _programs())


def _install() -> None:
    npm = shutil.which("npm")
    if npm is None:
        raise RuntimeError("npm is needed to install the agent CLIs for the tests marked `real`")
    command = [npm, "install", "--no-package-lock", "--no-audit", "--no-fund"]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=_INSTALL_SECONDS
    )
    if done.returncode != 0 or not _is_installed():
        raise RuntimeError(f"npm install failed ({done.returncode}) in {ROOT}:\n{done.stdout}{done.stderr}")


def _programs() -> tuple[tuple[str, ...], ...]:
    """Argument vectors in the order of Clis. The platform package of codex holds its one binary."""
    codex = sorted(_MODULES.glob("@openai/codex-*/vendor/*/bin/codex"))
    return (
        (str(_MODULES / "@anthropic-ai/claude-code/bin/claude.exe"),),
        (str(codex[0]) if codex else str(_MODULES / "codex-is-missing"),),
        (shutil.which("node") or "node", str(_MODULES / "@google/gemini-cli/bundle/gemini.js")),
        (str(_MODULES / "opencode-ai/bin/opencode.exe"),),
    )


def _locate() -> Clis:
    return Clis(*_programs())


@contextmanager
def _lock() -> Iterator[None]:
    """Let one process install at a time; the lock goes with the process, whatever becomes of it."""
    with (ROOT / "package.json").open() as file:  # there already, and no litter
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


if __name__ == "__main__":
    print(ensure_installed())  # noqa: T201
