"""The five: what must hold after every fault (faults.md, section 3).

    async with the_five(daemon):
        ...  # prompts through daemon.client, and something that goes wrong

1. The daemon is alive and answers `/health` with 200 within a second.
2. Every stream got exactly one terminal event, its numbers without a gap.
3. No process with our marker is left but the pool's own warm agents, and no zombie.
4. Descriptors and tasks are back where they were, within 6 s.
5. The metrics agree with what the callers saw.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

from tests.support.client import TERMINAL, Client, Events
from tests.support.daemon import Daemon

SETTLED = 6.0
SLACK = 2
_SERIES = re.compile(r"^clinvoker_(\w+?)(?:\{(.*)\})? ([0-9.e+-]+)$", re.MULTILINE)
NEVER_RUNS = {"invalid_request", "unsupported_parameter", "forbidden", "not_found", "unsupported_media_type"}
"""Codes of requests that are turned down before a run begins."""


class Snapshot:
    """What can be counted of a daemon at one moment."""

    def __init__(self, daemon: Daemon, metrics: str):
        self.series = {(name, labels): float(value) for name, labels, value in _SERIES.findall(metrics)}
        self.agents = int(self.sum("processes"))
        self.descriptors = daemon.fds()
        self.tasks = int(self.sum("tasks"))

    def sum(self, name: str) -> float:
        return sum(value for (series, _), value in self.series.items() if series == name)

    def outcomes(self) -> Counter[str]:
        """How many runs ended, by outcome."""
        counts: Counter[str] = Counter()
        for (name, labels), value in self.series.items():
            if name == "runs_total":
                counts[re.search(r'outcome="(\w+)"', labels)[1]] += int(value)
        return counts


async def look(daemon: Daemon) -> Snapshot:
    return Snapshot(daemon, (await daemon.client.get("/metrics")).body.decode())


@asynccontextmanager
async def the_five(daemon: Daemon) -> AsyncIterator[Daemon]:
    """Watch over a fault. The client's record is the block's own; the baseline is that of the daemon's first block."""
    client = daemon.client = Client(daemon.client.port)
    before = await look(daemon)
    if daemon.baseline is None:
        daemon.baseline = before = await _quiet(daemon)
    yield daemon
    await check(daemon, client, before, daemon.baseline)


async def check(daemon: Daemon, client: Client, before: Snapshot, baseline: Snapshot) -> None:
    assert daemon.process.poll() is None, f"(1) the daemon ended: {daemon.log}"
    with trio.fail_after(1):
        assert (await client.get("/health")).status == 200
    for events in client.streams:
        check_stream(events)
    after = await _settled(daemon, baseline)
    check_metrics(client, before, after)


async def _quiet(daemon: Daemon) -> Snapshot:
    """Wait until the daemon has started what it keeps ready."""
    before, after = None, await look(daemon)
    while before is None or (before.tasks, before.descriptors, before.agents) != (
        after.tasks,
        after.descriptors,
        len(daemon.agents()),
    ):
        await trio.sleep(0.2)
        before, after = after, await look(daemon)
    return after


def check_stream(events: Events) -> None:
    """(2) Exactly one terminal event, the last; numbers from 1 without a gap. A reader that left saw a part."""
    assert [event["seq"] for event in events.events] == list(range(1, len(events.events) + 1)), events
    ends = [index for index, event in enumerate(events.events) if event["type"] in TERMINAL]
    assert ends == [len(events.events) - 1] or (events.left and not ends), events
    assert events.left or not events.cut, events


async def _settled(daemon: Daemon, before: Snapshot) -> Snapshot:
    """(3) and (4): wait until what the fault took is given back."""
    began = trio.current_time()
    while problems := _unsettled(daemon, before, after := await look(daemon)):
        assert trio.current_time() - began < SETTLED, f"{problems}\n{daemon.log[-3000:]}"
        await trio.sleep(0.05)
    return after


def _unsettled(daemon: Daemon, before: Snapshot, after: Snapshot) -> dict[str, object]:
    seen = {
        "(3) strays": [one._asdict() for one in daemon.strays()],
        "(3) unmarked strays": daemon.noted_children(),
        "(3) agents beyond the pool's": max(len(daemon.agents()) - after.agents, 0),
        "(3) agents of the pool": abs(after.agents - before.agents),
        "(3) zombies": daemon.zombies(),
        "(4) descriptors": _beyond(after.descriptors - before.descriptors),
        "(4) tasks": _beyond(after.tasks - before.tasks),
        "(5) running": after.sum("runs_running"),
    }
    return {what: how for what, how in seen.items() if how}


def _beyond(growth: int) -> int:
    return growth if abs(growth) > SLACK else 0


def check_metrics(client: Client, before: Snapshot, after: Snapshot) -> None:
    """(5) As many runs ended, and in the ways, that the callers saw; of one who left nobody saw the end."""
    seen: Counter[str] = Counter(answer.code or "complete" for answer in client.answers)
    for code in NEVER_RUNS:
        del seen[code]
    gone = [events for events in client.streams if events.left or events.code == "reader_too_slow"]
    seen.update(events.code or "complete" for events in client.streams if events not in gone)
    counted = after.outcomes() - before.outcomes()
    assert not seen - counted, (seen, counted)
    assert sum((counted - seen).values()) == len(gone) + client.unseen, (seen, counted, gone)
    assert after.sum("queue_depth") == 0
