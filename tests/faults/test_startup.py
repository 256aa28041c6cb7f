"""F55 to F57, F59: starts that fail, starts that must not, and standard streams that are no good."""

import fcntl
import os
import signal
import socket
import sys
from pathlib import Path

import pytest
import trio

pytestmark = pytest.mark.daemon


def one_line(daemon):
    """Its one line about why it does not start."""
    assert daemon.ended() == 2
    (line,) = daemon.log.splitlines()
    assert "Traceback" not in line
    return line


def test_f55_a_port_in_use_is_one_line_and_exit_code_2(start):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        daemon = start(port=port, wait=False)
        assert one_line(daemon) == f"clinvoker: 127.0.0.1:{port} is already in use"
    assert daemon.nothing_left()


def test_f55_bad_configuration_is_one_line_and_exit_code_2(start):
    daemon = start(max_connections=-1, wait=False)
    assert "server.max_connections" in one_line(daemon)


def test_f56_a_second_daemon_on_one_state_directory_names_the_first_and_ends(start):
    first = start()
    second = start(wait=False, state=first.state)
    assert one_line(second) == f"clinvoker: already running (pid {first.pid}) on {first.state}"
    assert first.process.poll() is None


async def test_f56_the_lock_is_gone_with_a_killed_holder(start):
    daemon = start()
    daemon.signal(signal.SIGKILL)
    daemon.ended()
    daemon.start()
    daemon.wait_listening()
    assert (await daemon.client.ask("again")).json["output"] == "again"


@pytest.mark.parametrize("content", [b"1\n", b"\xff\xfe nonsense"], ids=str)
def test_f57_a_lock_file_that_was_left_behind_means_nothing(start, content):
    daemon = start()
    assert daemon.stop() == 0
    (daemon.state / "lock").write_bytes(content)
    daemon.start()
    daemon.wait_listening()
    assert (daemon.state / "lock").read_text() == f"{daemon.pid}\n"


def test_f57_the_state_directory_is_the_users_alone(start):
    daemon = start()
    assert daemon.state.stat().st_mode & 0o777 == 0o700
    assert (daemon.state / "lock").stat().st_mode & 0o777 == 0o600


# Standard streams.


@pytest.mark.parametrize("closed", ["2>&-", ">&- 2>&-", "<&- >&- 2>&-"])
async def test_f59_closed_standard_streams_do_no_harm(start, closed):
    port = free_port()
    script = f'exec {sys.executable} -m clinvoker serve "$@" {closed}'
    daemon = start(argv=["sh", "-c", script, "sh"], port=port, wait=False)
    await serves(daemon, port)
    daemon.signal(signal.SIGHUP)
    assert (await daemon.client.ask("hello")).json["output"] == "hello"
    assert (await daemon.client.ask("{{exit:1}}")).code == "backend_crashed"
    # What was opened first has not become standard output or standard error.
    targets = standard_streams(daemon)
    assert targets == {os.devnull}
    assert daemon.stop() == 0


async def test_f59_a_full_pipe_that_nobody_reads_stalls_nothing(start):
    port = free_port()
    reading, writing = os.pipe()
    try:
        fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4096)
        with os.fdopen(writing, "wb") as pipe:
            daemon = start(stderr=pipe, port=port, wait=False)
        await serves(daemon, port)
        for _ in range(40):  # each is a line of 200 bytes
            with trio.fail_after(2):
                assert (await daemon.client.ask("hello")).status == 200
        assert daemon.stop() == 0
    finally:
        os.close(reading)


async def test_f59_a_pipe_whose_reader_has_gone_does_no_harm(start):
    port = free_port()
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as pipe:
        daemon = start(stderr=pipe, port=port, wait=False)
    await serves(daemon, port)
    assert (await daemon.client.ask("hello")).json["output"] == "hello"
    assert daemon.stop() == 0


def standard_streams(daemon):
    """Where its first three descriptors go."""
    return {str(Path(f"/proc/{daemon.pid}/fd/{descriptor}").readlink()) for descriptor in (0, 1, 2)}


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


async def serves(daemon, port):
    """Wait until a daemon serves whose log cannot be read."""
    daemon.listens_on(port)
    began = trio.current_time()
    while True:
        try:
            assert (await daemon.client.get("/health")).status == 200
        except OSError:
            assert daemon.process.poll() is None
            assert trio.current_time() - began < 10
            await trio.sleep(0.02)
        else:
            return
