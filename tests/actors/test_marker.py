import contextlib
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from actors import marker
from actors.marker import ENV, Found, Instance, find, kill, now_ticks, owner_alive, parse
from actors.sweep import Sweep

PATH = {"PATH": os.environ["PATH"]}


@pytest.fixture
def mark():
    mark = Instance.current().marker(f"test-{time.monotonic_ns()}")
    yield mark
    for pause in Sweep(lambda found: found.marker == mark):
        time.sleep(pause)


@contextlib.contextmanager
def child(mark, *argv):
    with subprocess.Popen(
        argv, env=PATH | {ENV: mark}, start_new_session=True, stdout=subprocess.PIPE
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def carrying(mark):
    return find(lambda found: found.marker == mark)


def wait_until(condition, timeout=5.0):
    deadline = time.monotonic() + timeout
    while not (value := condition()):
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.005)
    return value


def sweep(found, **options):
    doing = Sweep(lambda one: one.marker == found, **options)
    for pause in doing:
        time.sleep(pause)
    return doing


def test_a_marker_names_its_instance_whatever_the_serial():
    me = Instance.current()
    assert me.pid == os.getpid()
    for serial in (0, 17, "with-dashes-1-2"):
        assert parse(me.marker(serial)) == me
        assert me.marker(serial).startswith(me.prefix)


@pytest.mark.parametrize("foreign", ["", "1", "a-b-c", "a-b-c-d-e", "a-b-1-x-e", "a-b-²-1-e"])
def test_a_foreign_value_is_no_marker_and_never_an_orphan(foreign):
    assert parse(foreign) is None
    assert owner_alive(foreign)


def test_an_owner_is_alive_only_while_this_very_process_is():
    me = Instance.current()
    assert owner_alive(me.marker(1))
    assert not owner_alive(me._replace(ticks=me.ticks - 1).marker(1)), "the pid has a new owner"
    assert not owner_alive(me._replace(boot="00000000").marker(1)), "another boot"
    assert owner_alive(me._replace(namespace="1", pid=2**22 + 1).marker(1)), "a container's: cannot be told"


def test_a_dead_owner_is_dead_as_a_zombie_and_after(mark):
    with child(mark, "sleep", "100") as process:
        found = wait_until(lambda: carrying(mark))[0]
        owner = Instance.current()._replace(pid=found.pid, ticks=found.ticks)
        assert owner_alive(owner.marker(1))
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert not owner_alive(owner.marker(1)), "a zombie owns nothing"
        assert carrying(mark) == []
        process.wait()
        assert not owner_alive(owner.marker(1))


def test_find_tells_who_it_is(mark):
    before = now_ticks()
    with child(mark, "sleep", "100") as process:
        [found] = wait_until(lambda: carrying(mark))
        assert (found.pid, found.session, found.pgid, found.ppid) == (
            process.pid,
            process.pid,
            process.pid,
            os.getpid(),
        )
        assert before <= found.ticks <= now_ticks()


def test_a_name_full_of_parentheses_is_no_trap(mark, tmp_path):
    program = tmp_path / "a) Z 1 (b"
    shutil.copy(shutil.which("sleep"), program)
    with child(mark, str(program), "100") as process:
        [found] = wait_until(lambda: carrying(mark))
        assert (found.pid, found.session) == (process.pid, process.pid)


def test_the_variable_is_found_by_its_whole_name_only(mark):
    env = PATH | {"X" + ENV: mark, ENV + "X": mark, "Y": f"{ENV}={mark}"}
    with subprocess.Popen(["sleep", "100"], env=env) as process:
        time.sleep(0.05)
        assert carrying(mark) == []
        process.kill()


def test_the_caller_is_never_found(mark):
    code = (
        "import sys, os; sys.path.insert(0, sys.argv[1])\n"
        "from actors.marker import find; print(os.getpid() in [one.pid for one in find(lambda _: True)])"
    )
    with child(mark, shutil.which("python3"), "-c", code, str(Path.cwd())) as process:
        assert process.stdout.read() == b"False\n"


def test_kill_spares_the_next_owner_of_a_pid(mark):
    with child(mark, "sleep", "100") as process:
        [found] = wait_until(lambda: carrying(mark))
        assert not kill(found._replace(ticks=found.ticks - 1))
        assert carrying(mark) == [found]
        assert kill(found)
        assert process.wait() == -signal.SIGKILL
        assert not kill(found)


def test_a_system_without_descriptors_does_not_say_that_nobody_is_there(monkeypatch):
    def no_room(*_):
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(marker.os, "open", no_room)
    with pytest.raises(OSError, match="Too many open files"):
        find(lambda _: True)


def test_a_sweep_that_is_blind_at_first_does_its_work_later(mark, monkeypatch):
    real, blind = os.open, iter([True] * 3)

    def no_room(*args):
        if next(blind, False):
            raise OSError(24, "Too many open files")
        return real(*args)

    with child(mark, "sleep", "100") as process:
        monkeypatch.setattr(marker.os, "open", no_room)
        assert sweep(mark).done
        assert process.wait() == -signal.SIGKILL


def test_a_sweep_asks_first_and_then_kills(mark):
    with (
        child(mark, "sh", "-c", "trap 'exit 7' TERM; echo; while :; do sleep 0.01; done") as polite,
        child(mark, "sh", "-c", "trap '' TERM; echo; while :; do sleep 0.01; done") as stubborn,
    ):
        assert polite.stdout.readline() == stubborn.stdout.readline() == b"\n"
        assert sweep(mark, term_s=0.3).done
        assert (polite.wait(), stubborn.wait()) == (7, -signal.SIGKILL)


def test_a_sweep_outruns_what_forks_and_dies(mark):
    # Each link lives for a few milliseconds, in a session of its own, and is nobody's child.
    comet = "import os\nwhile True:\n if os.fork(): os._exit(0)\n os.setsid()\n for _ in range(100000): pass"
    with child(mark, shutil.which("python3"), "-S", "-c", comet) as process:
        process.wait()
        assert sweep(mark, quiet_s=0.1, limit_s=10).done
        time.sleep(0.1)
        assert carrying(mark) == []


def alive(pid):
    stat = marker._stat(pid)
    return stat is not None and stat.state not in b"ZX"


def test_a_sweep_takes_the_kin_that_dropped_the_marker_and_no_stranger(mark):
    script = "env -i setsid sleep 100 & echo $!; env -i sleep 100 & echo $!; sleep 100"
    with child(mark, "sh", "-c", script) as process, subprocess.Popen(["sleep", "100"]) as stranger:
        kin = [int(process.stdout.readline()) for _ in range(2)]
        time.sleep(0.05)
        assert len(carrying(mark)) == 2
        assert sweep(mark).done
        assert not any(alive(pid) for pid in kin)
        assert alive(stranger.pid)
        stranger.kill()


def test_a_sweep_remembers_the_kin_it_saw_when_their_parent_lived(mark):
    with child(mark, "sh", "-c", "env -i setsid sleep 100 & echo $!; sleep 100") as process:
        kin = int(process.stdout.readline())
        time.sleep(0.05)
        doing = Sweep(lambda one: one.marker == mark)
        assert doing.look()
        process.kill()
        process.wait()
        for pause in doing:
            time.sleep(pause)
        assert not alive(kin)


def test_a_sweep_leaves_the_terminal_alone_in_which_somebody_plays_with_the_variable(mark):
    # The shell stands for the terminal's: it leads the session, and carries nothing.
    script = f"{ENV}={mark} sleep 100 & sleep 100 & echo $!; wait; sleep 100"
    with subprocess.Popen(
        ["sh", "-c", script], env=PATH, stdout=subprocess.PIPE, start_new_session=True
    ) as shell:
        neighbour = int(shell.stdout.readline())
        wait_until(lambda: carrying(mark))
        assert sweep(mark).done
        assert alive(shell.pid)
        assert alive(neighbour)
        os.killpg(shell.pid, signal.SIGKILL)


def test_kin_in_a_stranger_s_session_is_remembered_by_itself(mark):
    script = f"{ENV}={mark} sh -c 'env -i sleep 100 & echo $!; sleep 100' & wait; sleep 100"
    with subprocess.Popen(
        ["sh", "-c", script], env=PATH, stdout=subprocess.PIPE, start_new_session=True
    ) as shell:
        kin = int(shell.stdout.readline())
        wait_until(lambda: len(carrying(mark)) == 2)
        doing = Sweep(lambda one: one.marker == mark)
        assert doing.look()
        for one in carrying(mark):
            kill(one)
        for pause in doing:
            time.sleep(pause)
        assert not alive(kin)
        assert alive(shell.pid)
        os.killpg(shell.pid, signal.SIGKILL)


def test_a_sweep_asks_once(mark):
    with child(mark, "sh", "-c", "trap 'echo asked' TERM; echo; while :; do sleep 0.01; done") as process:
        process.stdout.readline()
        assert sweep(mark, term_s=0.2).done
        assert process.stdout.read() == b"asked\n"


def test_a_found_process_is_a_plain_record():
    assert Found(1, 2, 3, 4, 5, "m")._asdict()["marker"] == "m"
