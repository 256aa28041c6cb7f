"""More callers than there is room for, slow ones, and crowds that leave at once: F29 to F32."""

import shutil
import statistics
from contextlib import AsyncExitStack

import pytest
import trio

from tests.support.daemon import SERVE, Daemon, become_true, scripted
from tests.support.oracle import look, the_five

pytestmark = pytest.mark.daemon


@pytest.mark.skipif(shutil.which("prlimit") is None, reason="util-linux is not here")
async def test_f29_without_descriptors_streams_go_on_and_it_recovers_within_a_second(tmp_path):
    argv = ["prlimit", "--nofile=128", *SERVE]
    with Daemon(tmp_path, backends={"scripted": scripted(spares=1)}, argv=argv) as daemon:
        assert (await daemon.client.ask("before")).json["output"] == "before"
        async with daemon.client.stream("{{pace:150,0.01}}") as events:
            await events.until("0")
            crowd = [await trio.open_tcp_stream("127.0.0.1", daemon.client.port) for _ in range(300)]
            await trio.sleep(0.3)
            assert (await events.to_end()).code == ""
            for stream in crowd:
                await trio.aclose_forcefully(stream)
        with trio.fail_after(1):
            assert (await daemon.client.get("/health")).status == 200
        assert (await daemon.client.ask("after")).json["output"] == "after"
        await become_true(lambda: daemon.fds() < 100, 3)
        assert (
            daemon.logged("fewer connections than configured: too few descriptors (ulimit -n)")[0]["most"]
            == 64
        )
        assert "EMFILE" not in daemon.log


async def test_f30_readers_that_never_read_are_dropped_and_hold_no_memory(start):
    daemon = start(max_connections=512, max_concurrent_runs=32, write_stall_secs=1)
    async with the_five(daemon), AsyncExitStack() as crowd:
        async with daemon.client.stream("{{flood:5000}}") as whole:
            run_id = (await whole.to_end()).run_id
        before = daemon.rss()
        stalled = [
            await crowd.enter_async_context(
                daemon.client.open("GET", f"/api/v1/runs/{run_id}/events", receive_buffer=4096)
            )
            for _ in range(300)
        ]
        assert {incoming.status for incoming in stalled} == {200}
        took = []
        for _ in range(20):
            began = trio.current_time()
            await daemon.client.get("/health")
            took.append(trio.current_time() - began)
        assert statistics.median(took) < 0.1
        assert daemon.rss() - before < 100_000_000
        await become_true(lambda: daemon.fds() < 150, 5)


async def test_f31_slow_readers_all_get_everything(start):
    daemon = start(max_connections=512, write_stall_secs=1)
    async with the_five(daemon):
        async with daemon.client.stream("{{flood:200}}") as whole:
            last = (await whole.to_end()).events[-1]["seq"]
            got = []

            async def read_slowly() -> None:
                path = f"/api/v1/runs/{whole.run_id}/events"
                async with daemon.client.open("GET", path, receive_buffer=4096) as incoming:
                    told = b""
                    while data := await incoming.chunk():
                        told += data
                        await trio.sleep(len(data) / 20_000)
                    got.append((incoming.cut, f"id: {last}\n".encode() in told))

            async with trio.open_nursery() as nursery:
                for _ in range(100):
                    nursery.start_soon(read_slowly)
        assert got == [(False, True)] * 100


async def test_f32_a_crowd_that_leaves_the_line_at_once_leaves_it_empty(start):
    daemon = start(max_connections=512, max_concurrent_runs=2, queue_size=256)
    async with the_five(daemon):
        async with trio.open_nursery() as nursery:
            for _ in range(200):
                nursery.start_soon(daemon.client.ask, "w{{wait:60}}")
            began = trio.current_time()
            while (await look(daemon)).sum("queue_depth") < 190:
                assert trio.current_time() - began < 5
                await trio.sleep(0.05)
            nursery.cancel_scope.cancel()
        daemon.client.unseen += 200
        began = trio.current_time()
        answer = await daemon.client.ask("next")
        assert answer.json.get("output") == "next", answer
        assert (await look(daemon)).sum("queue_depth") == 0
        assert trio.current_time() - began < 3
