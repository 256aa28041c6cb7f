"""3. An answer of 50,000 deltas from echo, as SSE, against the same lines read bare from the agent's pipe.

Daemon: CPU of the daemon's own process from before the request until it is at rest, wall clock from before the connection
to the last byte, bytes on the wire, and writes (each is one chunk of the body). Bare: a Python loop that reads and splits
the agent's lines, and the same with each line decoded (`json.loads`); CPU of the reading thread. The agent's own CPU is in
neither, its time is in both walls.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from tests.bench import client
from tests.bench.backends import echo
from tests.bench.bare import BareEcho, chunk
from tests.bench.figures import middle, ratio, rounded
from tests.bench.recording import check
from tests.bench.table import Table
from tests.bench.usage import own_cpu, settle
from tests.support.daemon import Daemon

RUNS = 7
DELTAS = 50_000


@dataclass(frozen=True, slots=True)
class Cost:
    """What reading one long answer took; bytes and writes are those on the wire."""

    wall: float
    cpu: float
    size: int = 0
    writes: int = 0


def prompt_of(deltas: int) -> str:
    """A prompt whose echo has so many deltas."""
    return " ".join(f"w{number}" for number in range(deltas))


def through_daemon(daemon: Daemon, prompt: str) -> Cost:
    """One answer through the daemon, which must be exact."""
    before = own_cpu(daemon.pid)
    recording = client.ask(daemon.client.port, prompt)
    settle(daemon.pid)
    cpu = own_cpu(daemon.pid) - before
    events = recording.events()
    check(events, prompt)
    assert len(events) == len(prompt.split()) + 2, len(events)
    return Cost(recording.seconds, cpu, recording.size, len(recording.chunks()))


def bare(agent: BareEcho, prompt: str, *, decode: bool) -> Cost:
    """One answer from the agent's pipe, which must be exact."""
    session = agent.open()
    began, before = time.perf_counter(), time.thread_time()
    agent.prompt(session, prompt)
    lines: list[bytes] = []
    pieces: list[tuple[str, str] | None] = []
    for read in agent.read():
        lines += read.lines
        if decode:
            pieces += map(chunk, read.lines)
    wall, cpu = time.perf_counter() - began, time.thread_time() - before
    pieces = pieces or [chunk(line) for line in lines]
    assert "".join(piece[1] for piece in pieces if piece) == prompt
    return Cost(wall, cpu, sum(map(len, lines)) + len(lines))


def measure(place: Path, runs: int = RUNS) -> Iterator[Table]:
    """One table: a row a reader."""
    prompt = prompt_of(DELTAS)
    settings = echo()
    costs: dict[str, list[Cost]] = {"daemon, SSE": [], "bare, lines": [], "bare, lines decoded": []}
    with Daemon(place, backends={"echo": settings}) as daemon, BareEcho(settings["command"]) as agent:
        daemon.wait_listening()
        client.ask(daemon.client.port, "a first turn")
        for _ in range(runs):
            costs["daemon, SSE"].append(through_daemon(daemon, prompt))
            costs["bare, lines"].append(bare(agent, prompt, decode=False))
            costs["bare, lines decoded"].append(bare(agent, prompt, decode=True))
    yield Table(
        f"An answer of {DELTAS:,} deltas",
        f"Median (min-max) of {runs} interleaved runs. CPU of the reader alone, not of the agent.",
        ("reader", "CPU ms", "CPU / bare", "wall ms", "wall / bare", "MB", "writes"),
        [_row(name, measured, costs["bare, lines"]) for name, measured in costs.items()],
    )


def _row(name: str, costs: list[Cost], floor: list[Cost]) -> list[str]:
    cpu, floor_cpu = [cost.cpu for cost in costs], [cost.cpu for cost in floor]
    wall, floor_wall = [cost.wall for cost in costs], [cost.wall for cost in floor]
    writes = median(cost.writes for cost in costs)
    return [
        name,
        middle(cpu, 1000),
        ratio(cpu, floor_cpu),
        middle(wall, 1000),
        ratio(wall, floor_wall),
        rounded(median(cost.size for cost in costs) / 1e6),
        f"{writes:.0f}" if writes else "-",
    ]
