"""What processes use, by /proc: CPU seconds (to 10 ms, the clock tick) and resident memory.

A tree's CPU counts each live process with all its children that have ended and been waited for, so a process that ends
within a measurement is not lost. What the kernel does for no process in particular (network softirqs) is not seen.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

_TICK = os.sysconf("SC_CLK_TCK")
_UTIME, _STIME, _CUTIME, _CSTIME = 11, 12, 13, 14
_LOOK_EVERY = 0.2
_QUIET = 0.03
"""CPU seconds within one look below which a tree counts as at rest: idle CLIs never use none."""


def own_cpu(pid: int) -> float:
    """CPU seconds of the process itself, all its threads."""
    times = _stat(pid)
    return (int(times[_UTIME]) + int(times[_STIME])) / _TICK


def tree_cpu(pid: int) -> float:
    """CPU seconds of the process and all below it."""
    return sum(map(_cpu_with_ended, tree(pid)))


def tree(pid: int) -> list[int]:
    """The process and its descendants."""
    pids = [pid]
    for each in pids:
        pids.extend(_children(each))
    return pids


def settle(pid: int, within: float = 8.0) -> None:
    """Wait until the tree has come to rest, or until the time is up: one measurement must not pay for another."""
    began = time.monotonic()
    before = tree_cpu(pid)
    while time.monotonic() - began < within:
        time.sleep(_LOOK_EVERY)
        now = tree_cpu(pid)
        if now - before < _QUIET:
            return
        before = now


def _cpu_with_ended(pid: int) -> float:
    try:
        times = _stat(pid)
    except OSError:  # gone by now: its parent has it
        return 0.0
    return sum(int(times[index]) for index in (_UTIME, _STIME, _CUTIME, _CSTIME)) / _TICK


def _stat(pid: int) -> list[str]:
    """The fields after the command's name, which may itself hold spaces."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def _children(pid: int) -> Iterator[int]:
    try:
        for task in Path(f"/proc/{pid}/task").iterdir():
            yield from map(int, (task / "children").read_text().split())
    except OSError:
        return
