"""Packages that npm installs for the tests: what a folder's package.json names, at exact versions."""

from __future__ import annotations

import fcntl
import json
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_INSTALL_SECONDS = 600


def ensure_installed(root: Path) -> None:
    """Install what differs from package.json; a few milliseconds when nothing does."""
    if not is_installed(root):
        with locked(root / "package.json"):
            if not is_installed(root):  # another process may have been first
                _install(root)


def is_installed(root: Path) -> bool:
    """Whether everything is there at its version."""
    wanted = json.loads((root / "package.json").read_text())["dependencies"]
    for name, version in wanted.items():
        try:
            found = json.loads((root / "node_modules" / name / "package.json").read_text())["version"]
        except (OSError, ValueError, KeyError):
            return False
        if found != version:
            return False
    return True


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Let one process at a time install what a file names; the lock goes with the process."""
    with path.open() as file:  # there already, and no litter
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _install(root: Path) -> None:
    npm = shutil.which("npm")
    if npm is None:
        raise RuntimeError("npm is needed to install what the tests marked `real` run")
    command = [npm, "install", "--no-package-lock", "--no-audit", "--no-fund"]
    done = subprocess.run(
        command, cwd=root, capture_output=True, text=True, check=False, timeout=_INSTALL_SECONDS
    )
    if done.returncode != 0 or not is_installed(root):
        raise RuntimeError(f"npm install failed ({done.returncode}) in {root}:\n{done.stdout}{done.stderr}")
