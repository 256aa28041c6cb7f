"""The disk is full, read-only, or the database locked: the run in hand says so, the daemon lives, and goes on after."""

import sqlite3
import subprocess
from contextlib import closing, contextmanager

import pytest
import trio

from tests.sessions.support import (
    BACKENDS,
    begin,
    check_whole,
    ended,
    is_sound,
    look,
    prompt,
    query,
    replay,
    session,
    streaming,
)
from tests.support.daemon import Daemon, become_true

SIZE = 3 << 20
GOING = "SELECT count(*) FROM runs WHERE status = 'running'"


@contextmanager
def tiny_disk(directory, *options):
    """A file system of its own, in memory."""
    directory.mkdir(mode=0o700)
    mount = ["mount", "-t", "tmpfs", "-o", ",".join([f"size={SIZE}", "mode=700", *options]), "tmpfs"]
    if subprocess.run([*mount, str(directory)], capture_output=True, check=False).returncode:
        pytest.skip("nothing may be mounted here")
    try:
        yield directory
    finally:
        subprocess.run(["umount", "-l", str(directory)], check=True)


@contextmanager
def filled(directory):
    """No room is left on the disk."""
    filler = directory / "filler"
    with filler.open("wb", buffering=0) as file:
        try:
            while file.write(b"x" * 4096):
                pass
        except OSError:
            pass
    try:
        yield
    finally:
        filler.unlink()


@contextmanager
def locked(daemon):
    """Another process has the database for itself."""
    with closing(sqlite3.connect(daemon.state / "state.db", isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield
        connection.execute("ROLLBACK")


def failed_to_store(events, words):
    check_whole(events)
    assert events[-1]["content"]["code"] == "storage_error", events[-1]
    assert words in events[-1]["content"]["message"], events[-1]


async def goes_on(daemon, run, seen):
    """What the readers of a run that could not be kept were told is what is stored, once it can be."""
    client = daemon.client
    assert (await client.get("/health")).status == 200
    assert (await ended(client, run, 20))["outcome"]["code"] == "storage_error"
    await become_true(lambda: query(daemon, GOING) == [(0,)], 20)
    await trio.sleep(0.8)
    stored = await replay(client, run)
    assert [event | {"timestamp": ""} for event in stored] == [event | {"timestamp": ""} for event in seen]
    found = await session(client, seen[0]["session_id"])
    assert found["session"]["status"] == "error"
    assert found["turns"][-1]["error"] == "storage_error"
    assert is_sound(daemon)
    answer = await prompt(client, "on and on", seen[0]["session_id"])
    assert answer.json["output"] == "on and on"


async def test_a_full_disk(tmp_path):
    with tiny_disk(tmp_path / "disk") as disk:
        with Daemon(
            tmp_path / "daemon", backends={"scripted": dict(BACKENDS["scripted"])}, state=disk
        ) as daemon:
            client = daemon.client
            one = await begin(client, "first")
            async with streaming(client, "w{{wait:0.5}}{{count:60000}}{{wait:30}}") as events:
                await events.until("w")
                with filled(disk):
                    with trio.fail_after(15):
                        await events.to_end()
                    failed_to_store(events.events, "the disk is full")
                    assert (await client.get("/health")).status == 200
                    assert (await session(client, one))["session"]["turns"] == 1, "what is stored can be read"
                    assert await _refused(client, "y" * 500_000) == "storage_error"
                    ephemeral = await prompt(client, "without a trace", ephemeral=True)
                    assert ephemeral.json["output"] == "without a trace"
            await goes_on(daemon, events.run_id, events.events)
            assert (await session(client, one))["session"]["turns"] == 1
            daemon.process.kill()
            daemon.ended()
            daemon.start()
            daemon.wait_listening()
            check_whole(await replay(daemon.client, events.run_id))
            assert is_sound(daemon)


async def _refused(client, text):
    """Prompt until the room that is left in the log is used up."""
    for _ in range(20):
        answer = await prompt(client, text)
        if answer.code:
            return answer.code
    return ""


async def test_a_locked_database(daemon):
    client = daemon.client
    one = await begin(client, "first", backend="scripted")
    async with streaming(client, "w{{wait:0.3}}more{{wait:30}}", backend="scripted") as events:
        await events.until("w")
        with locked(daemon):
            with trio.fail_after(5):
                await events.to_end()
            failed_to_store(events.events, "locked by another process")
            began = trio.current_time()
            refused = await prompt(client, "x", backend="scripted")
            assert (refused.code, trio.current_time() - began < 4) == ("storage_error", True)
            assert refused.headers["retry-after"] == "1"
            assert (await session(client, one))["session"]["turns"] == 1, "what is stored can be read"
            patched = await client.call("PATCH", f"/api/v1/sessions/{one}", {"title": "x"})
            assert patched.code == "storage_error"
            detached = await prompt(client, "x", backend="scripted", detach=True)
            assert detached.code == "storage_error"
    await goes_on(daemon, events.run_id, events.events)


async def test_a_locked_database_that_is_let_go_in_time_is_not_noticed(daemon):
    async with streaming(daemon.client, "w{{wait:0.1}}more", backend="scripted") as events:
        await events.until("w")
        with locked(daemon):
            await trio.sleep(0.6)
        await events.to_end()
    assert events.last["type"] == "complete"


async def test_a_run_in_hand_looks_ended_to_whoever_asks_while_the_store_cannot_be_told(daemon):
    client = daemon.client
    async with streaming(client, "w{{wait:0.2}}more{{wait:30}}", backend="scripted") as events:
        await events.until("w")
        with locked(daemon):
            await events.to_end()
            await trio.sleep(0.8)
            check_whole(await replay(client, events.run_id))
            found = await look(client, events.run_id)
            assert (found["status"], found["outcome"]["code"]) == ("error", "storage_error")
            assert (await client.call("POST", f"/api/v1/runs/{events.run_id}/cancel")).json[
                "cancelled"
            ] is False
    await goes_on(daemon, events.run_id, events.events)


def test_a_state_directory_that_cannot_be_written_is_one_clear_line(tmp_path):
    with tiny_disk(tmp_path / "disk", "ro") as disk:
        with Daemon(tmp_path / "daemon", state=disk, wait=False) as daemon:
            assert daemon.ended() != 0
            [line] = daemon.log.splitlines()
            assert str(disk) in line
            assert "Read-only file system" in line
