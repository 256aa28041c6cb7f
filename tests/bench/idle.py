"""5. Memory: of an idle daemon, and of a stream on which nothing happens; and how soon the daemon answers.

Start: from before the spawn to the end of the first `GET /health` that is answered with 200, asked again and again every
2 ms; with echo alone, and with the real CLIs, whose spares then start on the same cores. Memory is the resident set
of the daemon's own process: agents have theirs. A stream is open to a client, its run and session live, its agent silent.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.bench import client
from tests.bench.backends import CLIS, echo, real
from tests.bench.figures import middle
from tests.bench.model import fake_model
from tests.bench.table import Table
from tests.bench.usage import settle
from tests.support.daemon import Daemon

RUNS = 5
STREAMS = 200
_SILENT_MS = 3_600_000
_KB, _MB = 1e-3, 1e-6


def measure(place: Path, runs: int = RUNS) -> Iterator[Table]:
    """One table."""
    rows: list[list[str]] = []
    with fake_model() as url:
        each = {name: real(name, url, place / "homes") for name in CLIS}
        for title, backends in (
            ("echo alone", {"echo": echo()}),
            ("all four backends", {"echo": echo(), **each}),
        ):
            places = [place / f"{title.replace(' ', '-')}-{run}" for run in range(runs)]
            starts = [_start(where, backends) for where in places]
            rows.append([f"start to /health, {title}, ms", middle([start[0] for start in starts], 1000)])
            rows.append([f"idle RSS, {title}, MB", middle([start[1] for start in starts], _MB)])
    grown = [_per_stream(place / f"streams-{run}") for run in range(runs)]
    rows.append([f"RSS per idle stream ({STREAMS} open), kB", middle([first for first, _ in grown], _KB)])
    rows.append([f"the same, the next {STREAMS}, kB", middle([second for _, second in grown], _KB)])
    yield Table("Start and memory", f"Median (min-max) of {runs} fresh daemons.", ("measure", "figure"), rows)


def _start(place: Path, backends: dict[str, Any]) -> tuple[float, float]:
    """Seconds until it answers, and its resident bytes once it is at rest."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
    with Daemon(place, backends=backends, wait=False, port=port) as daemon:
        while not _healthy(port):
            assert daemon.process.poll() is None, daemon.log
            time.sleep(0.002)
        seconds = time.monotonic() - daemon.began
        settle(daemon.pid, within=15)
        return seconds, daemon.rss()


def _healthy(port: int) -> bool:
    try:
        return client.get(port, "/health").startswith(b"HTTP/1.1 200 ")
    except OSError:
        return False


def _per_stream(place: Path) -> tuple[float, float]:
    """Bytes that each of the first silent streams costs, and each of as many more."""
    settings = echo(_SILENT_MS, max_conversations=4 * STREAMS)
    limits = {"max_concurrent_runs": 3 * STREAMS, "max_connections": 4 * STREAMS}
    prompts = ["nothing comes"] * STREAMS
    with Daemon(place, backends={"echo": settings}, **limits) as daemon:
        daemon.wait_listening()
        port = daemon.client.port
        with client.hold(port, prompts[:1]):  # the first brings in what all share
            settle(daemon.pid)
            none = daemon.rss()
            with client.hold(port, prompts):
                settle(daemon.pid)
                some = daemon.rss()
                with client.hold(port, prompts):
                    settle(daemon.pid)
                    more = daemon.rss()
    return (some - none) / STREAMS, (more - some) / STREAMS
