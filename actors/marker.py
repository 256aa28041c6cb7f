"""The mark that every process of a run carries in its environment, and how to find and end those that carry it.

A process group does not hold an agent's tools: they make sessions of their own. An environment variable does, since it
is inherited through `fork`, `setsid` and `exec`, and `/proc/PID/environ` shows it to whoever owns the process. What drops
its environment, as codex does for MCP servers, or hides it (another user's, a non-dumpable process) has to be found by
its kin, see `sweep`.

Standard library only: the guardian loads this into a bare interpreter.

Sources: proc(5) for `/proc/PID/stat` and `environ`, pidfd_open(2), pid_namespaces(7).
"""

import os
import signal
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

ENV = "CLINVOKER_RUN_ID"
"""The environment variable that holds the marker."""

_KEY = ENV.encode() + b"="
_HZ = os.sysconf("SC_CLK_TCK")
_BOOT_ID = "/proc/sys/kernel/random/boot_id"
_PARTS = 5


class Instance(NamedTuple):
    """One daemon process, told apart from every other that ever had its pid.

    `boot` is the start of the kernel's boot id, `namespace` the pid namespace in which `pid` means something, `ticks` the
    start time of the process as `/proc/PID/stat` has it.
    """

    boot: str
    namespace: str
    pid: int
    ticks: int

    @classmethod
    def current(cls) -> "Instance":
        """Return the calling process as an instance."""
        pid = os.getpid()
        stat = _stat(pid)
        if stat is None:
            msg = "/proc is not mounted: processes cannot be told apart without it"
            raise RuntimeError(msg)
        return cls(_boot(), _namespace(), pid, stat.ticks)

    @property
    def prefix(self) -> str:
        """What the markers of this instance, and of no other, begin with."""
        return f"{self.boot}-{self.namespace}-{self.pid}-{self.ticks}-"

    def marker(self, serial: int | str) -> str:
        """Return the marker of the instance's process tree number `serial`, which may be used once."""
        return f"{self.prefix}{serial}"


class Found(NamedTuple):
    """A live process; `ticks` is its start time, so that it is not taken for its pid's next owner."""

    pid: int
    ticks: int
    session: int
    pgid: int
    ppid: int
    marker: str
    """Empty if it carries none, or none that we may read."""


class _Stat(NamedTuple):
    state: bytes
    ppid: int
    pgid: int
    session: int
    ticks: int


def parse(marker: str) -> Instance | None:
    """Return the instance that made `marker`, or None if it is not one of our markers."""
    parts = marker.split("-", _PARTS - 1)
    if len(parts) < _PARTS or not (parts[2].isdecimal() and parts[3].isdecimal()):
        return None
    return Instance(parts[0], parts[1], int(parts[2]), int(parts[3]))


def owner_alive(marker: str) -> bool:
    """Return whether the daemon that made `marker` may still be running.

    Only what is certainly an orphan gives False: a foreign value, and a daemon of another pid namespace (a container's),
    whose pid says nothing here, count as alive.
    """
    owner = parse(marker)
    if owner is None:
        return True
    if owner.boot != _boot():
        return False
    if owner.namespace != _namespace():
        return True
    stat = _stat(owner.pid)
    return stat is not None and stat.state not in b"ZX" and stat.ticks == owner.ticks


def now_ticks() -> int:
    """Return the present time in clock ticks (10 ms each) on the clock of a process's start time."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) * _HZ // 1_000_000_000


def find(match: Callable[[Found], bool]) -> list[Found]:
    """Return the live processes with a marker that match, except the caller and zombies.

    Synchronous: well under 1 ms for 100 processes. What vanishes meanwhile or belongs to others is passed over.

    Raises OSError (EMFILE, ENFILE, ENOMEM) if the system has no room for looking: "nothing found" would be a lie.
    """
    return [process for process in _processes(marked=True) if match(process)]


def everyone() -> list[Found]:
    """Return all live processes, except the caller and zombies; raises like `find`."""
    return list(_processes(marked=False))


def kill(found: Found, signum: int = signal.SIGKILL) -> bool:
    """Send a signal to this very process; return False, and signal nobody, if it is gone.

    The pidfd pins the process before its start time is compared, so a pid that changes hands is never hit.

    Raises OSError (EMFILE, ENFILE, ENOMEM) if there is no file descriptor left.
    """
    try:
        pidfd = os.pidfd_open(found.pid)
    except ProcessLookupError:
        return False
    try:
        stat = _stat(found.pid)
        if stat is None or stat.ticks != found.ticks:
            return False
        signal.pidfd_send_signal(pidfd, signum)
    except (ProcessLookupError, PermissionError):
        return False
    finally:
        os.close(pidfd)
    return True


def _processes(*, marked: bool) -> Iterator[Found]:
    me = os.getpid()
    # The newest first: what forks and dies all the time is read before it is gone.
    for name in reversed(os.listdir("/proc")):  # noqa: PTH208 - pathlib costs the guardian 1 MB
        if not name.isdecimal() or int(name) == me:
            continue
        marker = _marker(name)
        if marked and not marker:
            continue
        stat = _stat(int(name))
        if stat is not None and stat.state not in b"ZX":
            yield Found(int(name), stat.ticks, stat.session, stat.pgid, stat.ppid, marker)


def _boot() -> str:
    with open(_BOOT_ID, encoding="ascii") as file:  # noqa: PTH123 - pathlib costs the guardian 1 MB
        return file.read(8)


def _namespace() -> str:
    return os.readlink("/proc/self/ns/pid").strip("pid:[]")  # noqa: PTH115 - leaves the digits


def _read(path: str) -> bytes:
    """Return a /proc file's bytes, nothing if the process is gone or not ours to read."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return b""
    try:
        chunks: list[bytes] = []
        while chunk := os.read(fd, 1 << 17):
            chunks.append(chunk)
        return b"".join(chunks)
    except (ProcessLookupError, PermissionError):
        return b""
    finally:
        os.close(fd)


def _marker(pid: str) -> str:
    environ = _read(f"/proc/{pid}/environ")
    if _KEY not in environ:
        return ""
    for entry in environ.split(b"\0"):
        if entry.startswith(_KEY):
            return entry[len(_KEY) :].decode("utf-8", "surrogateescape")
    return ""


def _stat(pid: int) -> _Stat | None:
    stat = _read(f"/proc/{pid}/stat")
    if not stat:
        return None
    # The command's name, in parentheses, may hold spaces and parentheses itself: count from the last one.
    fields = stat[stat.rindex(b")") + 2 :].split()
    return _Stat(fields[0], int(fields[1]), int(fields[2]), int(fields[3]), int(fields[19]))
