"""6. A thousand prompts through echo, fifty at a time, each a new session, its answer streamed and checked.

Two halves of 500; after each the daemon is let come to rest, and its resident memory and descriptors are read. Each run is
a fresh daemon, so the first half also pays for whatever is built only once. Prompts per second include the client, which shares
the cores.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

from tests.bench import client
from tests.bench.backends import echo
from tests.bench.figures import middle
from tests.bench.recording import check
from tests.bench.table import Table
from tests.bench.usage import own_cpu, settle
from tests.support.daemon import Daemon

RUNS = 3
HALF = 500
AT_ONCE = 50


def measure(place: Path, runs: int = RUNS) -> Iterator[Table]:
    """One table: a row a half."""
    halves: list[list[tuple[float, float, float, float]]] = [[], []]
    for run in range(runs):
        with Daemon(place / str(run), backends={"echo": echo()}) as daemon:
            daemon.wait_listening()
            for half in halves:
                half.append(_half(daemon))
    columns = (
        ("prompts/s", 1.0),
        ("CPU ms/prompt", 1000.0),
        ("RSS after, MB", 1e-6),
        ("descriptors after", 1.0),
    )
    rows = [
        [title, *(middle([run[index] for run in half], scale) for index, (_, scale) in enumerate(columns))]
        for title, half in zip(("1 to 500", "501 to 1000"), halves, strict=True)
    ]
    grown = [last[2] - first[2] for first, last in zip(*halves, strict=True)]
    rows.append(["grown between", "", "", middle(grown, 1e-6), _grown_descriptors(halves)])
    yield Table(
        f"1,000 prompts, {AT_ONCE} at a time",
        f"Median (min-max) of {runs} fresh daemons; no error in any.",
        ("prompts", *(title for title, _ in columns)),
        rows,
    )


def _half(daemon: Daemon) -> tuple[float, float, float, float]:
    """Prompts a second, CPU seconds of the daemon per prompt, and its bytes and descriptors afterwards."""
    prompts = [f"prompt number {number} of many, and a few words more" for number in range(HALF)]
    before = own_cpu(daemon.pid)
    began = time.perf_counter()
    recordings = client.ask_all(daemon.client.port, prompts, AT_ONCE)
    seconds = time.perf_counter() - began
    cpu = own_cpu(daemon.pid) - before
    for prompt, recording in zip(prompts, recordings, strict=True):
        check(recording.events(), prompt)
    time.sleep(2 * daemon.document["server"].get("reattach_grace_secs", 1))  # finished runs leave after this
    settle(daemon.pid)
    return HALF / seconds, cpu / HALF, daemon.rss(), daemon.fds()


def _grown_descriptors(halves: list[list[tuple[float, float, float, float]]]) -> str:
    return middle([last[3] - first[3] for first, last in zip(*halves, strict=True)])
