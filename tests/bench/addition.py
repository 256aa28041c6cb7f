"""2. What the daemon itself adds: the first token over HTTP, less the first token on the agent's own protocol.

Both from the request to the first piece of the answer, on a warm agent of the same kind in a session of its own, in turns:
once with our driver on the agent's pipes and nothing else, once through the whole daemon and a new connection. The two have
a home each, change places every turn, and rest before it, so that what an agent does after its turn burdens neither. The
agents are replaced a few times, for two processes of one program are never equally fast.

The driver's parsing is on both sides. The client's connection and the reading of the stream count as the daemon's.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import msgspec
import trio

from actors.driver import Driver, Link
from actors.messages import Message, Options, Prompt
from actors.outbox import Outbox
from clinvoker.backends.registry import PROTOCOLS
from clinvoker.config.settings import BackendSettings
from tests.backends.harness import Asked, live_link, no_tools
from tests.bench import client
from tests.bench.backends import CLIS, echo, real
from tests.bench.figures import middle, rounded
from tests.bench.model import fake_model
from tests.bench.recording import check, first_text
from tests.bench.table import Table
from tests.bench.usage import settle
from tests.support.daemon import Daemon

RUNS = 3
"""Pairs of agents."""

TURNS = 20
_UNCOUNTED = 4
"""First turns of each, in which programs still warm up."""

_REST = 0.05


def measure(place: Path, runs: int = RUNS) -> Iterator[Table]:
    """One table: a row an agent."""
    rows: list[list[str]] = []
    for name in (*CLIS, "echo"):
        alone: list[float] = []
        through: list[float] = []
        for run in range(runs):
            with fake_model() as url:
                pair = _measure(name, url, place / f"{name}-{run}")
                alone += pair[0]
                through += pair[1]
        added = (median(through) - median(alone)) * 1000
        rows.append([name, middle(alone, 1000), middle(through, 1000), rounded(added)])
    yield Table(
        "What the daemon adds to the first token",
        f"Median (min-max) of {runs * TURNS} interleaved turns over {runs} pairs of agents, in ms.",
        ("agent", "driver on its pipes", "daemon, by HTTP", "added at the median"),
        rows,
    )


def _measure(name: str, url: str, place: Path) -> tuple[list[float], list[float]]:
    with Daemon(place, backends={name: _settings(name, url, place / "through")}) as daemon:
        daemon.wait_listening()
        driver = _driver(name, _settings(name, url, place / "alone"), place)
        return trio.run(partial(_take_turns, driver, daemon, name, place))


def _settings(name: str, url: str, home: Path) -> dict[str, Any]:
    return echo() if name == "echo" else real(name, url, home)


def _driver(name: str, settings: dict[str, Any], home: Path) -> Driver:
    environ = {"PATH": os.environ["PATH"], "HOME": str(home)}
    return PROTOCOLS[settings["protocol"]](name, msgspec.convert(settings, BackendSettings), environ)


async def _take_turns(
    driver: Driver, daemon: Daemon, name: str, place: Path
) -> tuple[list[float], list[float]]:
    alone: list[float] = []
    through: list[float] = []
    workdir = place / "work"
    workdir.mkdir()
    options = Options(workdir=str(workdir))
    async with live_link(driver, options, place / "scratch") as live:
        conversation = await live.link.open(options, None)
        session: dict[str, str] = {}
        for turn in range(_UNCOUNTED + TURNS):
            if turn == 1:  # the other process is up by now, its spare as well
                settle(daemon.pid)
            prompt = f"please say this again, number {turn}"
            expected = prompt if name == "echo" else f"echo: {prompt}"
            for side in (alone, through) if turn % 2 else (through, alone):
                await trio.sleep(_REST)
                if side is alone:
                    alone.append(await _first_token(live.link, conversation, prompt, expected))
                    continue
                # Blocking on purpose: nothing else is to happen here meanwhile.
                recording = client.ask(daemon.client.port, prompt, **session)
                events = recording.events()
                check(events, expected)
                session = {"session_id": events[0].event["session_id"]}
                through.append(first_text(events) - recording.began)
    return alone[_UNCOUNTED:], through[_UNCOUNTED:]


async def _first_token(link: Link, conversation: str, prompt: str, expected: str) -> float:
    """Seconds until the first piece of the answer; the turn is finished before this returns."""
    out = Outbox()
    first = 0.0
    text = ""
    began = time.perf_counter()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(link.turn, conversation, Prompt(prompt), out, Asked(), no_tools)
        while batch := await out.take():
            now = time.perf_counter()
            pieces = "".join(event.text for event in batch if isinstance(event, Message))
            if pieces and not text:
                first = now - began
            text += pieces
    assert text == expected, text
    return first
