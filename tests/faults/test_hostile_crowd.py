"""Four hundred connections of every hostile kind at once, against the daemon as it is: F36, and threats T13 to T16."""

import json
import statistics
import subprocess
import sys
from contextlib import suppress

import h11
import pytest
import trio

from tests.support.attackers import ATTACKS
from tests.support.daemon import ROOT, become_true
from tests.support.oracle import the_five

pytestmark = pytest.mark.daemon
CROWD = 400
SECONDS = 2.5
SOON = 0.05
"""What `/health` may take longer than without the crowd, in seconds."""
SLACK = 8_000_000
"""Bytes that the second crowd may leave behind the first."""


async def health(daemon) -> tuple[float, int]:
    """How long it took, and the status: 0 if there was none."""
    began = trio.current_time()
    status = 0
    with suppress(OSError, trio.BrokenResourceError, h11.RemoteProtocolError):
        status = (await daemon.client.get("/health")).status
    return trio.current_time() - began, status


async def crowd(daemon) -> tuple[list[float], set[int], dict[str, int]]:
    """Let the crowd in; return the times and statuses of `/health` meanwhile, and how often each attack was made."""
    argv = [
        sys.executable,
        "-m",
        "tests.support.attackers",
        str(daemon.client.port),
        str(CROWD),
        str(SECONDS),
    ]
    attackers = await trio.lowlevel.open_process(argv, stdout=subprocess.PIPE, cwd=ROOT)
    took, statuses, told = [], set(), b""
    try:
        with trio.fail_after(30):
            while b"begun" not in told:
                told += await attackers.stdout.receive_some()
            while attackers.poll() is None:
                seconds, status = await health(daemon)
                took.append(seconds)
                statuses.add(status)
                await trio.sleep(0.02)
            while more := await attackers.stdout.receive_some():
                told += more
    finally:
        attackers.kill()
        await attackers.wait()
        await attackers.stdout.aclose()
    return took, statuses, json.loads(told.splitlines()[-1])


@pytest.mark.parametrize("places", [512, 100])
async def test_f36_a_hostile_crowd_delays_nobody_and_leaves_nothing_behind(start, places):
    daemon = start(max_connections=places, write_stall_secs=2, read_timeout_secs=2, idle_timeout_secs=2)
    async with trio.open_nursery() as nursery:  # what it opens once and keeps: the readers of its database
        for _ in range(50):
            nursery.start_soon(health, daemon)
    async with the_five(daemon):
        usual = statistics.median([(await health(daemon))[0] for _ in range(20)])
        left: list[int] = []
        delays: list[float] = []
        for _ in range(2):
            async with daemon.client.stream("{{pace:200,0.01}}") as other:
                await other.until("0")
                took, statuses, made = await crowd(daemon)
                assert made.keys() == ATTACKS.keys()
                delays.append(statistics.median(took))
                assert statuses <= ({200} if places > CROWD else {200, 503, 0})
                assert (await other.to_end()).code == ""
            began = trio.current_time()
            while (await health(daemon))[1] != 200:
                assert trio.current_time() - began < 1
            await become_true(lambda: daemon.fds() <= daemon.baseline.descriptors + 2, 6)
            left.append(daemon.rss())
        assert min(delays) < usual + SOON  # of two crowds: other tests may share the machine with one
        assert left[1] - left[0] < SLACK
    assert "Traceback" not in daemon.log
