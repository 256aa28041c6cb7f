import contextlib
import errno
import itertools
import os
import resource
import shutil
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
import trio
import trio.testing

from actors import launch as launching
from actors import marker as marking
from actors.marker import Instance, find, now_ticks
from actors.process import Launch, LaunchError, ProcessGone, SendTimeout, open_process, sweep_strays

PATH = {"PATH": os.environ["PATH"]}
SERIAL = itertools.count()
PYTHON = str(Path(sys.base_prefix, "bin", "python3"))


def open_fds():
    return set(os.listdir("/proc/self/fd"))  # noqa: PTH208 - names, not paths


def children():
    """The children of this process, zombies included; daemons that other modules share are among them."""
    return {
        pid for task in Path("/proc/self/task").iterdir() for pid in (task / "children").read_text().split()
    }


@pytest.fixture(autouse=True)
def nothing_is_left():
    fds, others = open_fds(), children()
    yield
    assert find(lambda found: found.marker.startswith(Instance.current().prefix)) == []
    assert open_fds() == fds
    assert children() <= others  # no zombies either


def agent(*argv, grace=0.5, env=PATH, cwd="/", **options):
    name = Instance.current().marker(next(SERIAL))
    return open_process(Launch(argv, env, cwd), marker=name, grace=grace, **options)


def sh(script, **options):
    return agent("sh", "-c", script, **options)


def py(script, **options):
    return agent(PYTHON, "-S", "-c", script, **options)


async def output(process):
    return [line async for lines in process.receive_lines() for line in lines]


async def first_line(process):
    async for lines in process.receive_lines():
        return lines[0]
    raise AssertionError("it said nothing")


def alive(pid):
    it = marking._stat(pid)
    return it is not None and it.state not in b"ZX"


# Talking


async def test_lines_go_in_and_come_out():
    async with sh("while read x; do echo got $x; done; printf end; echo bad >&2; exit 3") as process:
        await process.send(b"one\ntwo\n")
        assert await first_line(process) == b"got one"
        process._close(process._stdin)
        assert await output(process) in ([b"end"], [b"got two", b"end"])
        assert await process.wait() == process.returncode == 3
        assert process.stderr_tail == b"bad\n"


async def test_it_gets_its_environment_and_the_marker_and_nothing_else_of_ours():
    fd = os.open("/dev/null", os.O_RDONLY)
    os.set_inheritable(fd, True)  # noqa: FBT003 - the os module has it so
    try:
        async with sh("env; pwd; ls /proc/self/fd", env=PATH | {"A": "b"}, cwd="/usr") as process:
            lines = await output(process)
    finally:
        os.close(fd)
    assert set(lines[: lines.index(b"/usr")]) - {b"PWD=/usr", b"_=/usr/bin/env", b"SHLVL=0", b"OLDPWD=/"} == {
        f"PATH={PATH['PATH']}".encode(),
        b"A=b",
        f"CLINVOKER_RUN_ID={process.marker}".encode(),
    }
    assert lines[lines.index(b"/usr") + 1 :] == [b"0", b"1", b"2", b"3"], "3 is the folder that ls reads"


async def test_a_second_loop_goes_on_where_the_first_one_stopped():
    async with sh("echo 1; read x; echo 2") as process:
        assert await first_line(process) == b"1"
        await process.send(b"\n")
        assert await output(process) == [b"2"]


async def test_an_end_before_any_output():
    async with sh("exit 1") as process:
        assert await output(process) == []
        assert await process.wait() == 1


async def test_a_crash_is_a_negative_code_and_its_last_words_are_kept():
    async with sh("echo one; printf par; echo ouch >&2; kill -SEGV $$") as process:
        assert await output(process) == [b"one", b"par"]
        assert await process.wait() == -signal.SIGSEGV
        assert process.stderr_tail == b"ouch\n"


async def test_a_process_closes_its_output_and_lives_on():
    async with sh("echo 1; exec >&-; sleep 100") as process:
        with trio.fail_after(1):
            assert await output(process) == [b"1"]
        assert process.returncode is None


@pytest.mark.parametrize("tool", ["sleep 100 &", "setsid sleep 100 &", "(setsid yes &);"])
async def test_a_grandchild_that_holds_the_output_does_not_hold_us(tool):
    async with sh(f"{tool} echo last; printf words", drain_s=0.2) as process:
        with trio.fail_after(2):
            lines = await output(process)
            await process.wait()
        assert b"last" in lines


async def test_what_was_said_last_is_not_lost_on_a_late_reader():
    async with py(
        "print('x' * 65000); import os; os.fork() or __import__('time').sleep(100)", drain_s=0.01
    ) as process:
        await process.wait()
        await trio.sleep(0.1)
        assert await output(process) == [b"x" * 65000]


async def test_a_flood_of_errors_is_drained_to_its_tail():
    async with sh("head -c 100000000 /dev/zero >&2; echo done >&2; echo out") as process:
        with trio.fail_after(5):
            assert await output(process) == [b"out"]
            await process.wait()
        assert len(process.stderr_tail) == 64 * 1024
        assert process.stderr_tail.endswith(b"\0done\n")


def rss():
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * 4096


async def test_a_line_without_end_is_dropped_and_the_run_goes_on():
    before = rss()
    async with sh("echo a; head -c 64000000 /dev/zero; echo; echo b", line_limit=1 << 20) as process:
        assert await output(process) == [b"a", b"b"]
        assert process.oversize == 1
    assert rss() - before < 5e6


async def test_two_million_lines_take_a_second_at_most():
    async with sh("yes 0123456789012345678901234567890 | head -n 500000") as process:
        begun, count = time.perf_counter(), 0
        async for lines in process.receive_lines():
            count += len(lines)
        assert count == 500_000
        assert time.perf_counter() - begun < 0.5


async def test_a_flood_leaves_the_others_their_turn():
    ticks = 0

    async def tick(*, task_status):
        nonlocal ticks
        task_status.started()
        while True:
            await trio.lowlevel.checkpoint()
            ticks += 1

    async with sh("head -c 50000000 /dev/zero | tr '\\0' '\\n'") as process, trio.open_nursery() as nursery:
        await nursery.start(tick)
        batches = [len(lines) async for lines in process.receive_lines()]
        assert ticks >= len(batches)
        nursery.cancel_scope.cancel()


async def test_a_reader_cancelled_in_the_flood_has_lost_nothing():
    async with sh("seq 200000") as process:
        got = []
        with contextlib.suppress(trio.TooSlowError):
            while process.returncode is None or len(got) < 200_000:
                with trio.move_on_after(0.0003):
                    async for lines in process.receive_lines():
                        got += lines
        assert got == [b"%d" % i for i in range(1, 200_001)]


# Sending


async def test_a_process_that_never_reads_is_given_up():
    async with sh("sleep 100", send_timeout=0.2) as process:
        with trio.fail_after(1), pytest.raises(SendTimeout):
            await process.send(b"x" * 10_000_000)
        with pytest.raises(ProcessGone):
            await process.send(b"x")


async def test_a_slow_reader_may_take_longer_than_the_timeout():
    script = "import os, time\nfor _ in range(6): time.sleep(.1); os.read(0, 65536)"
    async with py(script, send_timeout=0.35) as process:
        await process.send(b"x" * 6 * 65536)


async def test_senders_take_turns():
    async with sh("cat") as process, trio.open_nursery() as nursery:
        for letter in b"abc":
            nursery.start_soon(process.send, bytes([letter]) * 300_000 + b"\n")
        lines = []
        while len(lines) < 3:
            async for batch in process.receive_lines():
                lines += batch
                if len(lines) == 3:
                    break
        assert sorted(lines) == [bytes([letter]) * 300_000 for letter in b"abc"]


async def test_half_a_message_is_the_last_one():
    async with sh("sleep 100") as process:
        with trio.move_on_after(0.1):
            await process.send(b"x" * 1_000_000)
        with trio.fail_after(1), pytest.raises(ProcessGone):
            await process.send(b"y\n")


async def test_a_message_cancelled_before_its_first_byte_did_no_harm():
    async with sh("cat") as process:
        with trio.CancelScope() as scope:
            scope.cancel()
            await process.send(b"no\n")
        await process.send(b"yes\n")
        assert await first_line(process) == b"yes"


@pytest.mark.parametrize("script", ["exit 0", "exec <&-; sleep 100", "exec 3<&0; sleep 100 <&3 & exit 0"])
async def test_who_does_not_listen_any_more_is_gone(script):
    async with sh(f"echo; {script}") as process:
        await first_line(process)
        await trio.sleep(0.05)
        with trio.fail_after(1), pytest.raises(ProcessGone):
            await process.send(b"x" * 100_000)


# Stopping

TREES = {
    "plain": "echo; sleep 100",
    "ignores TERM": "trap '' TERM INT HUP; echo; while :; do sleep 100; done",
    "in the group": "sleep 100 & echo; wait",
    "own session": "setsid sleep 100 & echo; wait",
    "own session, ignores TERM": "setsid sh -c 'trap \"\" TERM; sleep 100; sleep 100' & echo; wait",
    "nobody's child": "(setsid sh -c 'sleep 100 & sleep 100' &); echo; sleep 100",
    "no environment": "env -i sleep 100 & env -i setsid sleep 100 & echo; wait",
    "agent already gone": "setsid sleep 100 & sleep 100 & echo",
    "no environment, agent already gone": "env -i sleep 100 & echo",
    "own group, no environment, agent already gone": "set -m; env -i sleep 100 & echo",
    "stopped": "echo; kill -STOP $$",
    "tools stopped": "setsid sh -c 'kill -STOP $$' & echo; wait",
    "flood": "echo; yes; sleep 100",
    "flood of errors": "setsid yes >&2 & echo; yes >&2; sleep 100",
    "forks while it dies": "(while :; do setsid sleep 100 & sleep 0.005; done) & trap '' TERM; echo; wait; sleep 100",
}


@pytest.mark.parametrize("tree", TREES.values(), ids=TREES.keys())
async def test_the_whole_tree_is_gone(tree):
    # A time of its own, by which its processes are told from everybody else's.
    tree = tree.replace("sleep 100", mine := f"sleep 100.{os.getpid()}{next(SERIAL)}")
    async with sh(tree, grace=0.5) as process:
        await first_line(process)
        await trio.sleep(0.03)
        begun = trio.current_time()
    assert trio.current_time() - begun < 0.5 + 0.2
    assert not [one.pid for one in marking.everyone() if mine in cmdline(one.pid)]


async def test_a_stopped_agent_is_woken_to_end_by_itself():
    async with sh("trap 'exit 7' TERM; echo; kill -STOP $$; sleep 100", grace=3) as process:
        await first_line(process)
        await trio.sleep(0.03)
    assert process.returncode == 7


async def test_a_cancelled_block_ends_as_soon_as_its_agent_has():
    begun = trio.current_time()
    with trio.move_on_after(0.1):
        async with sh("sleep 100", grace=10):
            await trio.sleep_forever()
    assert trio.current_time() - begun < 1


def cmdline(pid):
    try:
        return Path(f"/proc/{pid}/cmdline").read_text(encoding="utf-8").replace("\0", " ")
    except (FileNotFoundError, ProcessLookupError):
        return ""


async def test_an_agent_may_say_farewell_on_a_full_pipe(tmp_path):
    note = tmp_path / "note"
    script = f"""
import os, signal, time
def farewell(*_):
    os.write(1, b"x" * 1000000)
    open({str(note)!r}, "w").write("farewell")
    os._exit(0)
signal.signal(signal.SIGTERM, farewell)
print(flush=True)
time.sleep(100)
"""
    async with py(script, grace=2) as process:
        await first_line(process)
    assert note.read_text(encoding="utf-8") == "farewell"


async def test_the_end_of_input_is_seen_too(tmp_path):
    note = tmp_path / "note"
    async with sh(f"trap '' TERM; echo; cat; echo eof > {note}") as process:
        await first_line(process)
    assert note.read_text(encoding="utf-8") == "eof\n"


async def test_no_grace_is_sigkill_at_once():
    async with sh("trap '' TERM; echo; sleep 100; sleep 100", grace=0) as process:
        await first_line(process)
        begun = trio.current_time()
    assert trio.current_time() - begun < 0.2
    assert process.returncode == -signal.SIGKILL


async def test_a_reader_elsewhere_sees_the_output_end():
    async with trio.open_nursery() as nursery, sh("sleep 100") as process:
        nursery.start_soon(output, process)
        nursery.start_soon(process.wait)
        await trio.testing.wait_all_tasks_blocked()


async def test_what_the_block_raises_comes_out_as_it_is():
    with pytest.raises(KeyError, match="mine"):
        async with sh("sleep 100"):
            raise KeyError("mine")


async def test_a_neighbour_is_not_touched():
    async with sh("echo; sleep 100") as neighbour:
        await first_line(neighbour)
        async with sh("setsid sleep 100 & echo; wait") as process:
            await first_line(process)
        await trio.sleep(0.05)
        assert neighbour.returncode is None
        assert alive(neighbour.pid)


class CancelAtStep(trio.abc.Instrument):
    """Cancels a scope just before a task takes the n-th step."""

    def __init__(self, scope, n):
        self.scope, self.left = scope, n

    def before_task_step(self, task):  # noqa: ARG002 - trio calls it with it
        self.left -= 1
        if self.left == 0:
            self.scope.cancel()


async def test_cancelled_at_any_step_it_leaves_nothing():
    fds = len(open_fds())
    for n in itertools.count(1):
        instance = Instance.current()
        with trio.CancelScope() as scope:
            instrument = CancelAtStep(scope, n)
            trio.lowlevel.add_instrument(instrument)
            try:
                async with sh("setsid sleep 100 & echo; read x; exit 0", grace=1) as process:
                    await first_line(process)
                    await process.send(b"x\n")
                    await process.wait()
            finally:
                trio.lowlevel.remove_instrument(instrument)
        assert find(lambda found, prefix=instance.prefix: found.marker.startswith(prefix)) == [], (
            f"at step {n}"
        )
        assert len(open_fds()) == fds, f"at step {n}"
        if instrument.left > 0:
            break
    assert n > 15


# Strays of a turn


async def test_the_tools_of_a_turn_go_and_the_agent_stays_with_its_servers():
    script = """
sleep 100 & echo server $!
setsid sleep 100 & echo stray $!
(setsid sh -c 'env -i sleep 100 & sleep 100' &)
read x; setsid sleep 100 & echo later $!; read x
"""
    async with sh(script) as process:
        pids = {}

        async def hear(count):
            async for lines in process.receive_lines():
                pids.update(line.split() for line in lines)
                if len(pids) == count:
                    return

        await hear(2)
        await trio.sleep(0.05)
        before = now_ticks()
        await process.send(b"\n")
        await hear(3)
        await trio.sleep(0.03)
        begun = trio.current_time()
        assert await sweep_strays(process.marker, process.pid, before) == 4
        assert trio.current_time() - begun < 0.3
        assert {name: alive(int(pid)) for name, pid in pids.items()} == {
            b"server": True,
            b"stray": False,
            b"later": True,
        }
        assert process.returncode is None
        assert await sweep_strays(process.marker, process.pid, before) == 0


# Starting


def write(path, text, mode):
    path.write_text(text, encoding="utf-8")
    path.chmod(mode)
    return str(path)


async def kind_of_failure(*argv, **options):
    fds = len(open_fds())
    with pytest.raises(LaunchError) as failure:
        async with agent(*argv, **options):
            raise AssertionError("it started")
    assert len(open_fds()) == fds
    return failure.value.kind


async def test_why_it_could_not_be_started(tmp_path):
    running = tmp_path / "running"
    shutil.copy(shutil.which("sleep"), running)
    kinds = {
        "missing": [("no-such-agent",), ("/no/such/agent",), ()],
        "not_executable": [(write(tmp_path / "a", "#!/bin/sh\n", stat.S_IRUSR),), ("/usr",)],
        "bad_format": [
            (write(tmp_path / "b", "#!/no/such/interpreter\n", 0o700),),
            (write(tmp_path / "c", "\0\1\2\3", 0o700),),
        ],
        "too_big": [("sh", "-c", "x" * 131_072)],
        "nul": [("sh", "-c", "a\0b"), ("sh", "-c", "\ud800")],
    }
    for kind, argvs in kinds.items():
        for argv in argvs:
            assert await kind_of_failure(*argv) == kind, argv
    with running.open("ab"):
        assert await kind_of_failure(str(running), "1") == "text_busy"
    for cwd in ("/no/such/folder", str(running), "relative", ""):
        assert await kind_of_failure("sh", cwd=cwd) == "cwd"


async def test_a_program_on_the_path_without_its_interpreter(tmp_path):
    write(tmp_path / "agent", "#!/no/such/interpreter\n", 0o700)
    assert await kind_of_failure("agent", env={"PATH": str(tmp_path)}) == "bad_format"


async def test_no_descriptors_left():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    fds = len(open_fds())
    async with sh("echo; setsid sleep 100 & wait") as process:  # must still be stoppable
        await first_line(process)
        try:
            # With every number of free descriptors from none to enough.
            kinds = set()
            for free in range(20):
                resource.setrlimit(resource.RLIMIT_NOFILE, (fds + 4 + free, hard))
                try:
                    async with sh("sleep 100"):
                        break
                except LaunchError as error:
                    kinds.add(error.kind)
            assert kinds == {"resources"}
            assert free > 5
            resource.setrlimit(resource.RLIMIT_NOFILE, (fds + 4, hard))
        finally:
            if free <= 5:
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize("number", [errno.EAGAIN, errno.ENOMEM])
async def test_the_system_cannot_fork(monkeypatch, number):
    def no_fork(*_args, **_options):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(subprocess, "_fork_exec", no_fork)
    assert await kind_of_failure("sh") == "resources"


async def test_the_system_has_no_thread_to_start_it_in(monkeypatch):
    async def no_thread(*_args, **_options):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(launching.trio.to_thread, "run_sync", no_thread)
    assert await kind_of_failure("sh") == "resources"


async def test_started_but_not_to_be_held(monkeypatch):
    def no_pidfd(_pid):
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(os, "pidfd_open", no_pidfd)
    assert await kind_of_failure("sleep", "100") == "resources"


def test_a_launch_does_not_tell_its_secrets():
    text = repr(Launch(("claude", "my prompt"), {"KEY": "sk-1"}, "/work"))
    assert "claude" in text
    assert "prompt" not in text
    assert "sk-1" not in text
