"""4. Two hundred streams at once, all from one echo process: at an easy pace, and at one that takes all of a core.

The agent says word number k at t0 + k * delay. How far an event arrives behind that clock (its stream's earliest event
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
SECONDS = 5
DELAYS_MS = (100, 20)


@dataclass(slots=True)
class _Seen:
    """What each run gave, in seconds."""

    events: int
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
        per_event = [cpu / self.events for cpu in self.cpu]
        measured = (self.wall, 1), (self.p50, 1e3), (self.p99, 1e3), (self.record_p50, 1e3)
        more = (self.record_p99, 1e3), (self.cpu, 1), (per_event, 1e6)
        return [
            name,
            *(middle(values, scale) if values else "-" for values, scale in (*measured, *more)),
        ]


def measure(place: Path, runs: int = RUNS) -> Iterator[Table]:
    """One table a pace: the daemon, and the agent alone."""
    for delay_ms in DELAYS_MS:
        yield _measure(place / str(delay_ms), runs, delay_ms)


def _measure(place: Path, runs: int, delay_ms: int) -> Table:
    words = SECONDS * 1000 // delay_ms
    settings = echo(delay_ms, max_conversations=4 * STREAMS)
    through, alone = _Seen(words * STREAMS), _Seen(words * STREAMS)
    prompts = [" ".join(f"s{stream}w{word}" for word in range(words)) for stream in range(STREAMS)]
    with (
        Daemon(place, backends={"echo": settings}, max_concurrent_runs=STREAMS + 8) as daemon,
        BareEcho(settings["command"]) as agent,
    ):
        daemon.wait_listening()
        client.ask(daemon.client.port, "a first turn")
        for _ in range(runs):
            _through_daemon(daemon, prompts, delay_ms / 1000, through)
            _bare(agent, prompts, delay_ms / 1000, alone)
    return Table(
        f"{STREAMS} streams at once, a word every {delay_ms} ms each "
        f"({STREAMS * 1000 // delay_ms:,} events/s)",
        f"Median (min-max) of {runs} interleaved runs; every text exact. "
        f"The agent takes {SECONDS} s by its own clock.",
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
        [through.row("daemon, SSE"), alone.row("bare, one pipe")],
    )


def _through_daemon(daemon: Daemon, prompts: list[str], delay: float, seen: _Seen) -> None:
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
        lags += _lags([timed.at for timed in words], delay)
        since_record += [timed.at + ahead - _recorded(timed) for timed in words]
    seen.note_lags(lags)
    seen.record_p50.append(percentile(since_record, 0.5))
    seen.record_p99.append(percentile(since_record, 0.99))


def _bare(agent: BareEcho, prompts: list[str], delay: float, seen: _Seen) -> None:
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
    seen.note_lags([lag for arrivals in times.values() for lag in _lags(arrivals, delay)])


def _lags(arrivals: list[float], delay: float) -> list[float]:
    """How far each event is behind the agent's clock, which the earliest of them sets."""
    offsets = [at - number * delay for number, at in enumerate(arrivals)]
    earliest = min(offsets)
    return [offset - earliest for offset in offsets]


def _recorded(timed: Timed) -> float:
    return datetime.fromisoformat(timed.event["timestamp"]).timestamp()
