"""1. A warm daemon against the same CLI started cold, per CLI: first answer text, end, and CPU.

Cold: see `one_shot`. Warm: an HTTP request to the daemon on a new connection, to the first `message` event and to the end
of the stream; either the next turn of one session, or the first turn of a new one, on the spare (claude) or in the shared
process (codex, gemini). CPU: of the daemon and all below it; for a new session until all has come to rest again, so that
the start of the next spare is in it. The fake model's CPU is in neither.

Not measured: how long a spare takes to come up (a burst of new sessions larger than the spares waits for that).
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

from tests.bench import client
from tests.bench.backends import CLIS, ONE_PROCESS_EACH, real
from tests.bench.figures import middle, ratio
from tests.bench.model import fake_model
from tests.bench.one_shot import Cost, one_shot
from tests.bench.recording import check, first_text
from tests.bench.table import Table
from tests.bench.usage import settle, tree_cpu
from tests.support.daemon import Daemon

RUNS = 10
TURNS = 10
"""Turns of the one session in each run: the CPU clock is too coarse for one."""


def measure(place: Path, runs: int = RUNS) -> Iterator[Table]:
    """One table: three rows a CLI."""
    rows: list[list[str]] = []
    for name in CLIS:
        with fake_model() as url:
            rows += _rows(name, *_measure(name, url, place / name, runs))
    yield Table(
        "Warm daemon against cold CLI",
        f"Median (min-max) of {runs} interleaved runs, in ms; the same session {TURNS} turns a run. "
        "CPU of a new session includes the start of the process that replaces the spare it took.",
        (
            "CLI, measure",
            "cold one-shot",
            "daemon, same session",
            "daemon, new session",
            "cold / same",
            "cold / new",
        ),
        rows,
    )


def _rows(name: str, cold: list[Cost], same: list[Cost], new: list[Cost]) -> Iterator[list[str]]:
    for measured, title in (("first", "first token"), ("total", "whole answer"), ("cpu", "CPU per prompt")):
        columns = [[getattr(cost, measured) for cost in costs] for costs in (cold, same, new)]
        ratios = [ratio(columns[0], column) for column in columns[1:]]
        yield [f"{name}, {title}", *(middle(column, 1000) for column in columns), *ratios]


def _measure(name: str, url: str, place: Path, runs: int) -> tuple[list[Cost], list[Cost], list[Cost]]:
    program = one_shot(name, url, place / "cold")
    cold: list[Cost] = []
    same: list[Cost] = []
    new: list[Cost] = []
    with Daemon(place, backends={name: real(name, url, place / "warm")}) as daemon:
        daemon.wait_listening()
        warm = _Warm(daemon, name)
        program.run("a first run, which makes the home")
        warm.new_session()
        for number in range(runs):
            settle(daemon.pid)
            cold.append(program.run(f"please say this again, number {number}"))
            settle(daemon.pid)
            same += warm.same_session()
            settle(daemon.pid)
            new.append(warm.new_session())
    return cold, same, new


class _Warm:
    """Asks a daemon's one backend."""

    def __init__(self, daemon: Daemon, name: str) -> None:
        self._daemon = daemon
        self._port = daemon.client.port
        self._name = name
        self._asked = 0
        self._await_spawns(1)
        self._session = ""
        self._cost_of()  # makes the session
        if name in ONE_PROCESS_EACH:
            self._await_spawns(2)

    def same_session(self) -> list[Cost]:
        """Some turns of the one session, each with an even part of their CPU."""
        before = tree_cpu(self._daemon.pid)
        costs = [self._cost_of(session_id=self._session) for _ in range(TURNS)]
        cpu = (tree_cpu(self._daemon.pid) - before) / TURNS
        return [Cost(cost.first, cost.total, cpu) for cost in costs]

    def new_session(self) -> Cost:
        """The first turn of a session."""
        spawns = self._spawns()
        before = tree_cpu(self._daemon.pid)
        cost = self._cost_of()
        if self._name in ONE_PROCESS_EACH:
            self._await_spawns(spawns + 1)
        settle(self._daemon.pid)
        return Cost(cost.first, cost.total, tree_cpu(self._daemon.pid) - before)

    def _cost_of(self, **fields: str) -> Cost:
        self._asked += 1
        prompt = f"please say this again, number {self._asked}"
        recording = client.ask(self._port, prompt, **fields)
        events = recording.events()
        check(events, f"echo: {prompt}")
        self._session = self._session or events[0].event["session_id"]
        return Cost(first_text(events) - recording.began, recording.seconds, 0.0)

    def _spawns(self) -> int:
        """How many processes have come up."""
        name = f'clinvoker_spawns_total{{backend="{self._name}"}} '.encode()
        _, found, rest = client.get(self._port, "/metrics").partition(name)
        return int(float(rest.split(b"\n")[0])) if found else 0

    def _await_spawns(self, count: int) -> None:
        began = time.monotonic()
        while self._spawns() < count:
            assert time.monotonic() - began < 30, "no process came up"
            time.sleep(0.05)
