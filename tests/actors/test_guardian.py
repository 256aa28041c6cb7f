import logging
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
import trio

from actors import guardian as guarding
from actors import marker as marking
from actors.guardian import keep_guardian, sweep_dead_instances
from actors.marker import Found, Instance, find, kill
from actors.scratch import scratch_directory
from actors.sweep import Sweep

DAEMON = Path(__file__).parent / "children" / "daemon.py"
ROOT = Path(__file__).parents[2]
TREE = 2 * 6
"""Processes with a marker under the stand-in: agent, two tools, the shell's children; at least this many."""


class Daemon:
    """A stand-in for the daemon, in a process of its own."""

    def __init__(self, *options):
        argv = [sys.executable, str(DAEMON), str(ROOT), *options]
        self.process = subprocess.Popen(argv, stdout=subprocess.PIPE, start_new_session=True)
        self.prefix, pid = self.process.stdout.readline().decode().split()
        self.guardian = int(pid)
        time.sleep(0.05)  # the tools of its agents, too, are there then
        self.tree = self.agents_and_kin()

    def marked(self):
        return find(lambda found: found.marker.startswith(self.prefix))

    def agents_and_kin(self):
        look = Sweep(lambda found: found.marker.startswith(self.prefix))
        look.look()
        return look.left

    def still_there(self):
        return [one for one in self.tree if alive(one.pid)] + self.marked()

    def close(self):
        self.process.kill()
        self.process.communicate()
        for pause in Sweep(lambda found: found.marker.startswith(self.prefix)):
            time.sleep(pause)
        for one in self.tree:
            kill(one)


@pytest.fixture
def daemon(request):
    daemon = Daemon(*getattr(request, "param", ()))
    yield daemon
    daemon.close()


def alive(pid):
    stat = marking._stat(pid)
    return stat is not None and stat.state not in b"ZX"


def open_fds(pid="self"):
    return sorted(os.listdir(f"/proc/{pid}/fd"))  # noqa: PTH208 - names, not paths


async def come_true(condition, timeout):  # noqa: ASYNC109 - a test's bound
    with trio.fail_after(timeout):
        while not condition():
            await trio.sleep(0.01)


def wait_until(condition, timeout):
    begun = time.monotonic()
    while not condition():
        assert time.monotonic() - begun < timeout, "it did not come to pass"
        time.sleep(0.01)
    return time.monotonic() - begun


def test_a_killed_daemon_leaves_nothing(daemon):
    assert len(daemon.marked()) >= TREE
    assert len(daemon.tree) >= TREE + 2, "those that dropped the marker count too"
    daemon.process.kill()
    wait_until(lambda: not daemon.still_there(), 1.5)
    wait_until(lambda: not alive(daemon.guardian), 1)


def test_a_daemon_that_is_terminated_leaves_nothing(daemon):
    daemon.process.terminate()
    wait_until(lambda: not daemon.still_there(), 1.5)
    wait_until(lambda: not alive(daemon.guardian), 1)


def test_the_guardian_outlives_what_ends_the_daemon(daemon):
    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
        os.kill(daemon.guardian, signum)
    daemon.process.kill()
    wait_until(lambda: not daemon.still_there(), 1.5)


def test_the_guardian_is_small_and_holds_three_files_and_no_session_of_ours(daemon):
    status = Path(f"/proc/{daemon.guardian}/status").read_text(encoding="ascii")
    [rss] = [int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS")]
    assert rss < 14_000, "kB"
    assert open_fds(daemon.guardian) == ["0", "1", "2"]
    assert os.getsid(daemon.guardian) == daemon.guardian


def test_another_daemon_and_its_agents_are_spared(daemon):
    other = Daemon()
    try:
        daemon.process.kill()
        wait_until(lambda: not daemon.still_there(), 1.5)
        time.sleep(0.05)
        assert len(other.still_there()) >= len(other.tree) + TREE
        assert alive(other.guardian)
    finally:
        other.close()


@pytest.mark.parametrize("daemon", [("--no-guardian",)], indirect=True)
async def test_without_a_guardian_the_next_start_cleans_up(daemon):
    await sweep_dead_instances()  # the daemon lives
    assert len(daemon.still_there()) >= len(daemon.tree) + TREE
    daemon.process.kill()
    daemon.process.wait()
    await trio.sleep(0.1)
    assert len(daemon.still_there()) >= len(daemon.tree) + TREE, "nobody else did it"
    begun = trio.current_time()
    assert await sweep_dead_instances() >= TREE
    assert trio.current_time() - begun < 1
    assert daemon.still_there() == []


async def test_daemon_and_guardian_killed_together(daemon):
    os.kill(daemon.guardian, signal.SIGKILL)
    daemon.process.kill()
    daemon.process.wait()
    await sweep_dead_instances()
    assert daemon.still_there() == []


async def test_the_directories_of_dead_daemons_go_and_those_of_live_ones_stay(monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    live = Instance.current()
    dead = live._replace(ticks=1)
    (tmp_path / "clinvoker-foreign").mkdir()
    async with scratch_directory(live.marker(1)) as spared, scratch_directory(dead.marker(1)) as removed:
        await (trio.Path(removed) / "left").mkdir()
        await sweep_dead_instances()
        assert sorted(tmp_path.iterdir()) == sorted([Path(spared), tmp_path / "clinvoker-foreign"])


async def test_a_killed_guardian_is_replaced_within_a_second(caplog, monkeypatch):
    instance = Instance.current()
    real, born = guarding.trio.lowlevel.open_process, []

    async def spy(*args, **options):
        process = await real(*args, **options)
        born.append(process.pid)
        return process

    monkeypatch.setattr(guarding.trio.lowlevel, "open_process", spy)
    async with trio.open_nursery() as nursery:
        assert await nursery.start(keep_guardian, instance) == born[0]
        for n in range(1, 3):
            os.kill(born[-1], signal.SIGKILL)
            await come_true(lambda n=n: len(born) > n and alive(born[-1]), 1)
        nursery.cancel_scope.cancel()
    assert not any(alive(pid) for pid in born)
    assert "ended with -9" in caplog.text


async def test_a_cancelled_guardian_ends_soon_and_leaves_no_zombie_and_no_pipe():
    fds = open_fds()
    begun = trio.current_time()
    async with trio.open_nursery() as nursery:
        pid = await nursery.start(keep_guardian, Instance.current())
        nursery.cancel_scope.cancel()
    assert trio.current_time() - begun < 1
    assert marking._stat(pid) is None
    assert open_fds() == fds


async def test_a_guardian_that_is_stuck_is_killed(monkeypatch):
    monkeypatch.setattr(guarding, "_STOP_S", 0.1)
    async with trio.open_nursery() as nursery:
        pid = await nursery.start(keep_guardian, Instance.current())
        os.kill(pid, signal.SIGSTOP)
        nursery.cancel_scope.cancel()
    assert marking._stat(pid) is None


@pytest.mark.parametrize("program", ["/no/such/program", "/bin/false"])
async def test_a_first_guardian_that_cannot_be_started_is_said(monkeypatch, program):
    monkeypatch.setattr(guarding.sys, "executable", program)
    async with trio.open_nursery() as nursery:
        with trio.fail_after(2), pytest.raises(OSError, match=r"No such file|before it was on guard"):
            await nursery.start(keep_guardian, Instance.current())


async def test_a_later_guardian_that_cannot_be_started_is_tried_again(monkeypatch, caplog):
    real = sys.executable
    async with trio.open_nursery() as nursery:
        pid = await nursery.start(keep_guardian, Instance.current())
        monkeypatch.setattr(guarding.sys, "executable", "/no/such/program")
        os.kill(pid, signal.SIGKILL)
        await come_true(lambda: "trying again" in caplog.text, 2)
        monkeypatch.setattr(guarding.sys, "executable", real)
        me = os.getpid()
        await come_true(lambda: any(one.ppid == me and one.pid != pid for one in marking.everyone()), 2)
        nursery.cancel_scope.cancel()
    assert caplog.records[0].levelno == logging.WARNING


async def test_what_started_while_the_daemon_died_is_caught(monkeypatch):
    # Marked only after the guardian has looked for the first time: between fork and exec it has no marker yet.
    instance = Instance.current()._replace(ticks=1)
    env = {"PATH": os.environ["PATH"], marking.ENV: instance.marker(1)}
    async with trio.open_nursery() as nursery:
        await nursery.start(keep_guardian, instance)
        real = guarding.trio.Process.wait

        async def late(process):
            await trio.sleep(0.06)
            late.process = subprocess.Popen(["sleep", "100"], env=env)  # noqa: ASYNC220 - 1 ms
            return await real(process)

        monkeypatch.setattr(guarding.trio.Process, "wait", late)
        nursery.cancel_scope.cancel()
    assert late.process.wait(1) in {-signal.SIGTERM, -signal.SIGKILL}


def test_a_record_of_a_process_long_gone_is_harmless():
    assert not kill(Found(os.getpid(), 0, 0, 0, 0, ""))
