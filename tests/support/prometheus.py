"""A real Prometheus and its promtool: those of the machine, else Debian's package, unpacked under `build/`.

Nothing is installed: its programs need no more than libc, and no service is started. `python -m tests.support.prometheus`
fetches it and prints where it is, or why it cannot be had here.
"""

from __future__ import annotations

import fcntl
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2] / "build" / "prometheus"
_SECONDS = 120


class NotInstallableError(Exception):
    """It cannot be had on this machine; the text says why."""


@dataclass(frozen=True, slots=True)
class Prometheus:
    """What to execute."""

    server: str
    promtool: str


def ensure_installed() -> Prometheus:
    """Find it, or fetch it. Raises `NotInstallableError`."""
    server, promtool = shutil.which("prometheus"), shutil.which("promtool")
    if server is not None and promtool is not None:
        return Prometheus(server, promtool)
    fetched = Prometheus(str(ROOT / "usr/bin/prometheus"), str(ROOT / "usr/bin/promtool"))
    with _lock():
        if not Path(fetched.promtool).exists():
            _fetch()
    return fetched


def _fetch() -> None:
    for program in ("apt-get", "dpkg-deb"):
        if shutil.which(program) is None:
            raise NotInstallableError(f"Debian's package of Prometheus needs {program}, which is not there")
    # A new machine has no lists of packages yet.
    if _run("apt-get", "download", "prometheus"):
        _run("apt-get", "update")
        if problem := _run("apt-get", "download", "prometheus"):
            raise NotInstallableError(f"Debian's package of Prometheus cannot be fetched: {problem}")
    packages = sorted(ROOT.glob("prometheus_*.deb"))
    if problem := _run("dpkg-deb", "--extract", str(packages[-1]), str(ROOT)):
        raise NotInstallableError(f"Debian's package of Prometheus cannot be unpacked: {problem}")


def _run(*command: str) -> str:
    """Run a command and return what was wrong, if anything was."""
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=_SECONDS)
    return "" if done.returncode == 0 else f"{done.returncode}: {done.stderr}"


@contextmanager
def _lock() -> Iterator[None]:
    """Let one process fetch at a time; the lock goes with the process, whatever becomes of it."""
    ROOT.mkdir(parents=True, exist_ok=True)
    with (ROOT / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


if __name__ == "__main__":
    try:
        print(ensure_installed())  # noqa: T201
    except NotInstallableError as reason:
        print(f"no Prometheus here: {reason}")  # noqa: T201
