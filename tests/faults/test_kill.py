"""F52 to F54, F58: the daemon, its guardian, or both are killed; and what the next daemon finds."""

import os
import random
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import h11
import pytest
import trio

from actors import marker as marking
from actors.marker import ENV, Instance
from tests.faults.conftest import SERVER
from tests.support.daemon import Daemon, become_true, scripted, wait_until

pytestmark = pytest.mark.daemon
GONE = 3.0
READY = 1.0
TOOLS = "{{spawn:setsid}}{{spawn:setsid+double+deaf}}{{spawn:group+deaf}}"


@pytest.fixture
def daemon(tmp_path):
    with Daemon(tmp_path / "daemon", backends={"scripted": scripted(spares=1)}, **SERVER) as daemon:
        yield daemon


def on_guard(pid):
    """Whether a guardian has got as far as to ignore SIGTERM."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("SigIgn:")[2].split()[0], 16) >> (signal.SIGTERM - 1) & 1


def killed(daemon):
    daemon.signal(signal.SIGKILL)
    assert daemon.ended() == -signal.SIGKILL


async def test_f52_a_killed_daemon_leaves_no_agent_and_no_tool(daemon):
    async with daemon.client.stream(f"{TOOLS}w{{{{pace:9999,0.02}}}}") as events:
        await events.until("w")
        assert len(daemon.strays()) == 3
        began = trio.current_time()
        killed(daemon)
        await become_true(daemon.nothing_left, GONE)
        assert trio.current_time() - began < GONE
        await events.to_end()
        assert events.cut


async def test_f52_a_killed_daemon_leaves_no_agent_that_obeys_nothing(daemon):
    async with daemon.client.stream(f"{{{{deaf}}}}{TOOLS}w{{{{hang}}}}") as events:
        await events.until("w")
        killed(daemon)
        await become_true(daemon.nothing_left, GONE)


@pytest.mark.slow
async def test_f52_killed_at_random_moments_it_is_back_within_a_second_with_nothing_left(daemon):
    seed = random.randrange(1 << 32)  # noqa: S311 - moments are no secrets
    moments = random.Random(seed)  # noqa: S311 - moments are no secrets
    starts = []
    for _ in range(10):
        async with trio.open_nursery() as nursery:
            for index in range(3):
                prompt = f"{TOOLS}w{{{{pace:9999,0.01}}}}" if index else "w{{pace:5,0.01}}"
                nursery.start_soon(_until_cut, daemon.client, prompt)
            await trio.sleep(moments.uniform(0, 0.4))
            killed(daemon)
        prefix = daemon.instance.prefix
        daemon.start()
        daemon.wait_listening()
        starts.append(daemon.seconds_to_start)
        await become_true(lambda: not marking.find(lambda found: found.marker.startswith(prefix)), GONE)  # noqa: B023
        await become_true(lambda: not daemon.noted_children(), GONE)
    # The machine is shared; what is promised is for a machine of one's own.
    assert sorted(starts)[len(starts) // 2] < READY, (seed, starts)
    assert (await daemon.client.ask("hello")).json["output"] == "hello"


async def _until_cut(client, prompt):
    # It may be cut before the answer's head, too.
    with suppress(OSError, trio.BrokenResourceError, h11.RemoteProtocolError, AssertionError):
        await client.read(prompt)


async def test_f53_a_killed_guardian_is_replaced_and_the_new_one_knows_its_duty(daemon):
    (first,) = daemon.guardians()
    await become_true(lambda: on_guard(first), 2)
    os.kill(first, signal.SIGKILL)
    await become_true(lambda: daemon.guardians() not in ([], [first]), 2)
    await become_true(lambda: on_guard(*daemon.guardians()), 2)
    async with daemon.client.stream(f"{TOOLS}w{{{{pace:9999,0.02}}}}") as events:
        await events.until("w")
        killed(daemon)
        await become_true(daemon.nothing_left, GONE)


async def test_f53_runs_do_not_notice_the_guardians_death(daemon):
    async with daemon.client.stream("w{{pace:40,0.02}}") as events:
        await events.until("w")
        for guardian in daemon.guardians():
            os.kill(guardian, signal.SIGKILL)
        assert (await events.to_end()).code == ""
    assert daemon.zombies() == []


async def test_f54_what_two_killed_ones_left_the_next_daemon_ends_at_its_start(daemon):
    async with daemon.client.stream(f"{{{{deaf}}}}{TOOLS}w{{{{hang}}}}") as events:
        await events.until("w")
        (guardian,) = daemon.guardians()
        os.kill(guardian, signal.SIGSTOP)  # so that it cannot see the daemon's end before its own
        killed(daemon)
        os.kill(guardian, signal.SIGKILL)
    before = daemon.marked()
    assert len(before) >= 4
    daemon.start()
    daemon.wait_listening()
    pids = {found.pid for found in before}
    await become_true(lambda: not pids & {found.pid for found in marking.find(lambda _: True)}, 5)
    await become_true(lambda: not daemon.noted_children(), 5)
    assert (await daemon.client.ask("hello")).json["output"] == "hello"


@pytest.fixture
def sleepers():
    """Processes with a marker of one's choice."""
    started = []

    def start(marker):
        env = {ENV: marker}
        started.append(subprocess.Popen(["/bin/sleep", "1000"], env=env, start_new_session=True))
        wait_until(lambda: marking._marker(str(started[-1].pid)) == marker, 2)
        return started[-1]

    yield start
    for sleeper in started:
        sleeper.kill()
        sleeper.wait()


def test_f58_a_pid_that_has_changed_hands_does_not_protect_what_its_first_owner_left(tmp_path, sleepers):
    me = Instance.current()
    mine, other = sleepers(me.marker("f58")), sleepers(me._replace(ticks=me.ticks - 1).marker("f58"))
    rebooted = sleepers(me._replace(boot="00000000").marker("f58"))
    foreign = sleepers("somebody-else's-variable")
    with Daemon(tmp_path / "daemon", backends={"scripted": scripted()}, **SERVER):
        assert other.wait(5) == -signal.SIGKILL or other.returncode == -signal.SIGTERM
        assert rebooted.wait(5) in {-signal.SIGKILL, -signal.SIGTERM}
        time.sleep(0.2)
        assert mine.poll() is None
        assert foreign.poll() is None


def test_f58_two_daemons_spare_each_others_agents(tmp_path):
    with (
        Daemon(tmp_path / "one", backends={"scripted": scripted(spares=1)}, **SERVER) as one,
        Daemon(tmp_path / "two", backends={"scripted": scripted(spares=1)}, **SERVER) as two,
    ):
        wait_until(lambda: one.agents() and two.agents(), 3)
        survivor = two.agents()
        killed(one)
        wait_until(one.nothing_left, GONE)
        assert two.agents() == survivor
        assert two.stop() == 0
