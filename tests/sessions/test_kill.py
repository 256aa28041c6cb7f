"""F52, seen from outside: the daemon is killed at random moments under load, and nothing it has acknowledged is lost."""

import random
from collections import defaultdict
from contextlib import suppress

import h11
import pytest
import trio

from tests.sessions.support import PROMPT, check_whole, is_sound, query, replay, session
from tests.support.client import TERMINAL, Events

pytestmark = pytest.mark.daemon

SERVER = {"reattach_grace_secs": 0.5, "kill_grace_secs": 1}
CALLERS = 6
CUT = (OSError, trio.BrokenResourceError, trio.ClosedResourceError, h11.RemoteProtocolError)


class Ledger:
    """What the callers were told, and so can rely on."""

    def __init__(self):
        self.events = defaultdict(dict)
        """By run, its events by number."""
        self.sessions = {}
        """The session of each run."""
        self.promised = set()
        """Detached runs that were answered with their id."""
        self.kept = []
        """Sessions to go on with."""

    def note(self, events):
        for event in events.events:
            self.events[event["run_id"]][event["seq"]] = event
            self.sessions[event["run_id"]] = event["session_id"]


async def call(client, ledger, dice):
    """One caller: streams, detached runs, new sessions and old ones, until the daemon is gone."""
    while True:
        pace = f"w{{{{pace:{dice.randint(0, 60)},{dice.choice((0, 0.001, 0.01))}}}}}"
        body = {"prompt": pace, "backend": "scripted", "stream": True}
        if ledger.kept and dice.random() < 0.4:
            body |= {"session_id": dice.choice(ledger.kept), "queue": dice.random() < 0.5}
        if dice.random() < 0.3:
            body |= {"detach": True}
        async with client.open("POST", PROMPT, body) as incoming:
            if incoming.status != 200 or "detach" in body:
                answer = await incoming.whole()
                if incoming.status == 200 and not incoming.cut:
                    ledger.promised.add(answer.json["run_id"])
                continue
            events = Events(incoming)
            try:
                with trio.move_on_after(dice.choice((0.02, 10))) as leaving:
                    await events.to_end()
            finally:
                ledger.note(events)
            if leaving.cancelled_caught:
                events.reset()
            elif events.last.get("type") == "complete":
                ledger.kept.append(events.last["session_id"])


async def until_cut(*arguments):
    with suppress(*CUT):
        await call(*arguments)


async def check(client, ledger, daemon):
    for run, seen in ledger.events.items():
        stored = await replay(client, run)
        check_whole(stored)
        assert {event["seq"]: event for event in stored if event["seq"] in seen} == seen
        if stored[-1]["seq"] not in seen and stored[-1]["type"] == "error":
            assert stored[-1]["content"]["code"] in {"interrupted", "cancelled"}
        assert seen.keys() == set(range(1, len(seen) + 1))
        ends = [seq for seq, event in seen.items() if event["type"] in TERMINAL]
        assert ends in ([], [max(seen)])
        turns = {turn["run_id"]: turn for turn in (await session(client, ledger.sessions[run]))["turns"]}
        turn = turns[run]
        assert turn["ended"] is not None
        said = "".join(event["content"]["text"] for event in stored if event["type"] == "message")
        assert turn["output"] == said
    for run in ledger.promised:
        check_whole(await replay(client, run))
    assert query(daemon, "SELECT count(*) FROM runs WHERE status = 'running'") == [(0,)]
    assert query(daemon, "SELECT count(*) FROM turns WHERE ended IS NULL") == [(0,)]
    assert query(daemon, "SELECT count(*) FROM sessions WHERE status = 'running'") == [(0,)]
    assert is_sound(daemon)


async def kill_and_check(daemon, times):
    seed = random.randrange(1 << 32)  # noqa: S311 - moments are no secrets
    print(f"seed {seed}")  # noqa: T201 - for whoever wants it again
    dice = random.Random(seed)  # noqa: S311 - moments are no secrets
    known, interrupted, acknowledged = [], 0, 0
    for _ in range(times):
        ledger = Ledger()
        ledger.kept = known[-20:]
        async with trio.open_nursery() as nursery:
            for _ in range(CALLERS):
                nursery.start_soon(until_cut, daemon.client, ledger, random.Random(dice.random()))  # noqa: S311
            await trio.sleep(dice.uniform(0.02, 0.7))
            daemon.process.kill()
            daemon.ended()
        daemon.start()
        daemon.wait_listening()
        await check(daemon.client, ledger, daemon)
        known = [one for one in ledger.kept if (await session(daemon.client, one))["session"]["id"] == one]
        interrupted += query(
            daemon, "SELECT count(*) FROM runs WHERE CAST(outcome AS TEXT) LIKE '%interrupted%'"
        )[0][0]
        acknowledged += sum(map(len, ledger.events.values()))
    print(f"{acknowledged} events acknowledged, {interrupted} runs interrupted")  # noqa: T201 - for people
    assert acknowledged > 20 * times
    assert interrupted > 0


async def test_killed_under_load_eight_times_it_loses_nothing(daemon):
    await kill_and_check(daemon, 8)


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_killed_under_load_many_times_it_loses_nothing(daemon, kills):
    await kill_and_check(daemon, kills)
