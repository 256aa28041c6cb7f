"""4. Two hundred streams at once, each a word every 100 ms, all from one echo process.

The agent says word number k at t0 + k * 100 ms. How far an event arrives behind that clock (its stream's earliest event
sets t0) is what the whole way adds to it, waiting in line included; the constant part of the way is not seen. The same agent
read bare from its pipe shows what the agent itself is late, for it is one process for all. `record to client`: from the
event's timestamp, which has whole milliseconds (so up to 1 ms too much), to its arrival.

The client reads 200 sockets in one thread on the same cores: its own delay is part of the figures.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from tests.bench import client
from tests.bench.backends import echo
from tests.bench.bare import BareEcho, chunk
from tests.bench.figures import middle, percentile
from tests.bench.recording import Timed, check
from tests.bench.table import Table
from tests.bench.usage import own_cpu, settle
from tests.support.daemon import Daemon

RUNS = 3
STREAMS = 200
WORDS = 50
DELAY_MS = 100
_FLOOR = WORDS * DELAY_MS / 1000


@dataclass(slots=True)
class _Seen:
    """What each run gave, in seconds."""

    wall: list[float] = field(default_factory=list)
    p50: list[float] = field(default_factory=list)
    p99: list[float] = field(default_factory=list)
    record_p50: list[float] = field(default_factory=list)
    record_p99: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)

    def note_lags(self, lags: list[float]) -> None:
        self.p50.append(percentile(lags, 0.5))
        self.p99.append(percentile(lags, 0.99))

    def row(self, name: str) -> list[str]:
        events = STREAMS * WORDS
        per_event = [cpu / events for cpu in self.cpu]
        measured = (self.wall, 1), (self.p50, 1e3), (self.p99, 1e3), (self.record_p50, 1e3)
        more = (self.record_p99, 1e3), (self.cpu, 1), (per_event, 1e6)
        return [
            name,
            *(middle(values, scale) if values else "-" for values, scale in (*measured, *more)),
        ]


def measure(place: Path, runs: int = RUNS) -> Iterator[Table]:
    """One table: the daemon, and the agent alone."""
    settings = echo(DELAY_MS, max_conversations=4 * STREAMS)
    daemon_seen, bare_seen = _Seen(), _Seen()
    prompts = [" ".join(f"s{stream}w{word}" for word in range(WORDS)) for stream in range(STREAMS)]
    with (
        Daemon(place, backends={"echo": settings}, max_concurrent_runs=STREAMS + 8) as daemon,
        BareEcho(settings["command"]) as agent,
    ):
        daemon.wait_listening()
        client.ask(daemon.client.port, "a first turn")
        for _ in range(runs):
            _through_daemon(daemon, prompts, daemon_seen)
            _bare(agent, prompts, bare_seen)
    yield Table(
        f"{STREAMS} streams at once, a word every {DELAY_MS} ms each ({STREAMS * 1000 // DELAY_MS:,} events/s)",
        f"Median (min-max) of {runs} interleaved runs; every text exact. The agent needs {_FLOOR:.1f} s by its own clock.",
        (
            "reader",
            "wall s",
            "late p50 ms",
            "late p99 ms",
            "record to client p50 ms",
            "p99 ms",
            "daemon CPU s",
            "CPU µs/event",
        ),
        [daemon_seen.row("daemon, SSE"), bare_seen.row("bare, one pipe")],
    )


def _through_daemon(daemon: Daemon, prompts: list[str], seen: _Seen) -> None:
    before = own_cpu(daemon.pid)
    began = time.perf_counter()
    recordings = client.ask_all(daemon.client.port, prompts, len(prompts))
    seen.wall.append(time.perf_counter() - began)
    settle(daemon.pid)
    seen.cpu.append(own_cpu(daemon.pid) - before)
    ahead = time.time() - time.perf_counter()
    lags: list[float] = []
    since_record: list[float] = []
    for prompt, recording in zip(prompts, recordings, strict=True):
        events = recording.events()
        check(events, prompt)
        words = [timed for timed in events if timed.event["type"] == "message"]
        lags += _lags([timed.at for timed in words])
        since_record += [timed.at + ahead - _recorded(timed) for timed in words]
    seen.note_lags(lags)
    seen.record_p50.append(percentile(since_record, 0.5))
    seen.record_p99.append(percentile(since_record, 0.99))


def _bare(agent: BareEcho, prompts: list[str], seen: _Seen) -> None:
    sessions = [agent.open() for _ in prompts]
    began = time.perf_counter()
    for session, prompt in zip(sessions, prompts, strict=True):
        agent.prompt(session, prompt)
    reads = list(agent.read(len(prompts)))
    seen.wall.append(reads[-1].at - began)
    texts: dict[str, str] = defaultdict(str)
    times: dict[str, list[float]] = defaultdict(list)
    for read in reads:
        for piece in filter(None, map(chunk, read.lines)):
            texts[piece[0]] += piece[1]
            times[piece[0]].append(read.at)
    assert [texts[session] for session in sessions] == prompts
    seen.note_lags([lag for arrivals in times.values() for lag in _lags(arrivals)])


def _lags(arrivals: list[float]) -> list[float]:
    """How far each event is behind the agent's clock, which the earliest of them sets."""
    offsets = [at - number * DELAY_MS / 1000 for number, at in enumerate(arrivals)]
    earliest = min(offsets)
    return [offset - earliest for offset in offsets]


def _recorded(timed: Timed) -> float:
    return datetime.fromisoformat(timed.event["timestamp"]).timestamp()
