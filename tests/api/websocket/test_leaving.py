"""Who goes away: a peer, and the daemon itself."""

from collections import Counter

import pytest
import trio

from tests.api.support import eventually
from tests.api.websocket.support import (
    BINARY,
    CLOSE,
    GRACE,
    close_code,
    connected,
    op,
    opened,
    status_of,
    vanish,
)
from tests.http.support import frame, read_to_end
from tests.support.daemon import Daemon, become_true, scripted
from tests.support.oracle import look


@pytest.mark.daemon
@pytest.mark.parametrize("how", ["close frame", "reset", "end"])
async def test_when_the_peer_goes_its_attached_runs_end_and_detached_ones_go_on(daemon, how):
    stream = await opened(daemon.client.port)
    for ref, detach in (("a", False), ("b", False), ("d", True)):
        fields = {"prompt": f"said-{ref} {{{{wait:1.5}}}}", "detach": detach}
        await stream.send_all(op("prompt", ref=ref, backend="scripted", **fields))
    data = b""
    runs = {}
    while len(runs) < 3:
        data += await stream.receive_some(65536)
        for piece in data.split(b'{"ref":')[1:]:
            if b"said-" in piece:
                runs[piece[1:2].decode()] = piece.partition(b'"run_id":"')[2].partition(b'"')[0].decode()
    assert b'{"type":"detached","ref":"d","run_id":"%b"' % runs["d"].encode() in data
    if how == "close frame":
        await stream.send_all(frame(CLOSE, (1000).to_bytes(2, "big")))
        assert close_code(await read_to_end(stream)) == 1000
    if how == "reset":
        await vanish(stream)
    await stream.aclose()
    with trio.fail_after(GRACE + 3):
        for ref in ("a", "b"):
            while await status_of(daemon, runs[ref]) != "cancelled":
                await trio.sleep(0.05)
        assert await status_of(daemon, runs["d"]) == "running"
        while await status_of(daemon, runs["d"]) != "complete":
            await trio.sleep(0.05)


@pytest.mark.daemon
async def test_who_comes_back_within_the_grace_finds_the_run(daemon):
    async with connected(daemon) as line:
        await line.send("prompt", ref="a", prompt="said {{wait:0.6}} end", backend="scripted")
        run_id = await line.begun("a")
        seen = line.told[-1]["seq"]
    async with connected(daemon) as line:
        await line.send("attach", ref="b", run_id=run_id, after=seen)
        await line.ends("b")
        assert line.text("b") == " end"
        assert line.told[0]["seq"] == seen + 1


@pytest.mark.daemon
async def test_who_does_not_read_slows_no_other_connection(daemon):
    async with await opened(daemon.client.port, receive_buffer=4096) as slow, connected(daemon) as line:
        script = "{{flood:20000}} told {{wait:60}}"
        await slow.send_all(op("prompt", ref="a", prompt=script, backend="scripted"))
        await trio.sleep(1)  # the agent has said it all, and its reader is stuck in it
        began = trio.current_time()
        for number in range(20):
            await line.send("prompt", ref=str(number), prompt="quick", backend="echo")
            await line.ends(str(number))
        assert trio.current_time() - began < 2
        await vanish(slow)
    await become_true(lambda: not daemon.strays(), GRACE + 3)


@pytest.mark.daemon
async def test_descriptors_and_tasks_come_back_to_where_they_were(daemon):
    async with connected(daemon) as line:
        await line.send("prompt", ref="a", prompt="warm", backend="echo")
        await line.ends("a")

    async def level():
        seen = await look(daemon)
        return seen.tasks, seen.descriptors, seen.sum("runs_running")

    before = None
    while before != (before := await level()):
        await trio.sleep(0.4)
    for how in range(10):
        stream = await opened(daemon.client.port)
        for ref in range(5):
            await stream.send_all(op("prompt", ref=str(ref), prompt="x", backend="echo", ephemeral=True))
        await stream.send_all(op("zap") + frame(BINARY, b""))
        if how % 2:
            await vanish(stream)
        else:
            await stream.send_all(frame(CLOSE, (1000).to_bytes(2, "big")))
            await read_to_end(stream)
            await stream.aclose()

    async def are_back():
        return all(abs(new - old) <= 2 for new, old in zip(await level(), before, strict=True))

    await eventually(are_back, 6)


@pytest.mark.daemon
async def test_at_the_end_every_open_run_tells_its_last_event_before_1001(tmp_path):
    backends = {"scripted": scripted(max_processes=24, max_spawning=8), "echo": {}}
    with Daemon(tmp_path, backends=backends, shutdown_grace_secs=5, kill_grace_secs=1) as daemon:
        async with connected(daemon) as line:
            refs = [str(number) for number in range(12)]
            for ref in refs:
                script = "said {{count:2000}}{{wait:60}}" if ref in {"0", "1"} else "said {{wait:60}}"
                await line.send("prompt", ref=ref, prompt=script, backend="scripted")
            silent = {*refs}
            while silent:
                silent.discard((await line.until(lambda event: event["type"] == "message"))["ref"])
            daemon.signal(15)
            with trio.fail_after(12):
                assert await line.closed() == 1001
            last = {ref: line.of(ref)[-1] for ref in refs}
            assert {event["type"] for event in last.values()} == {"error"}
            assert {event["content"]["code"] for event in last.values()} == {"server_draining"}
            assert Counter(event["ref"] for event in line.told if event["type"] == "error") == dict.fromkeys(
                refs, 1
            )
        assert await daemon.wait_ended() == 0
