"""Connections end when they should: platform.md rows 2, 3 and 12."""

from contextlib import AsyncExitStack

import pytest
import trio
import trio.testing

from .apps import make_app
from .support import descriptors, eventually, get, read_to_end, read_until, serving, stock


@pytest.mark.parametrize(
    "request_bytes",
    [get("/health", "Connection: close"), get("/health", version="1.0")],
    ids=["connection-close", "http-1.0"],
)
async def test_a_connection_that_is_not_to_be_kept_closes_at_once(request_bytes):
    app, _ = make_app()
    async with serving(app) as server:
        began = trio.current_time()
        answer = await server.ask(request_bytes)
        assert answer.endswith(b'{"status":"ok"}\n')
        assert trio.current_time() - began < 0.5


async def test_the_stock_server_still_leaves_it_open():
    app, _ = make_app()
    async with stock(app) as server:
        with pytest.raises(trio.TooSlowError):
            await server.ask(get("/health", "Connection: close"), within=0.5)


async def test_an_idle_connection_closes_after_keep_alive():
    app, _ = make_app()
    async with serving(app, keep_alive_s=0.2) as server, await server.connect() as client:
        for _ in range(3):
            await client.send_all(get("/health"))
            await read_until(client, b"ok")
        began = trio.current_time()
        with trio.fail_after(2):
            assert await read_to_end(client) == b""
        assert 0.1 < trio.current_time() - began < 1


async def test_a_connection_that_says_nothing_closes_after_the_header_time():
    app, _ = make_app()
    async with serving(app, header_time_s=0.2) as server:
        assert await server.ask(b"") == b""


async def test_a_head_that_drips_is_answered_408():
    app, _ = make_app()
    async with serving(app, header_time_s=0.3) as server, await server.connect() as client:
        await client.send_all(b"GET /health HTTP/1.1\r\n")
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def drip():
                while True:
                    await client.send_all(b"X-A: b\r\n")
                    await trio.sleep(0.05)

            answer = await read_until(client, b"request_timeout")
            nursery.cancel_scope.cancel()
        assert answer.startswith(b"HTTP/1.1 408 ")


async def test_shutdown_does_not_wait_for_idle_connections():
    app, _ = make_app()
    async with serving(app, shutdown_grace_s=5) as server, await server.connect() as client:
        await client.send_all(get("/health"))
        await read_until(client, b"ok")
        async with await server.connect():
            began = trio.current_time()
            server.stop.set()
            await server.ended.wait()
            assert trio.current_time() - began < 0.5
        assert await read_to_end(client) == b""


async def test_shutdown_lets_an_answer_end_as_the_last_of_its_connection():
    app, _ = make_app()
    async with serving(app, shutdown_grace_s=5) as server, await server.connect() as client:
        await client.send_all(get("/pause"))
        await trio.sleep(0.05)
        server.stop.set()
        answer = await read_to_end(client)
        assert b"connection: close" in answer
        assert answer.endswith(b"paused")


async def test_five_stalled_readers_do_not_hold_up_the_shutdown():
    app, diary = make_app()
    async with serving(app, shutdown_grace_s=0.5) as server:
        clients = [await server.connect(receive_buffer=4096) for _ in range(5)]
        for client in clients:
            await client.send_all(get("/flood"))
        await trio.sleep(0.3)
        began = trio.current_time()
        server.stop.set()
        await server.ended.wait()
        assert trio.current_time() - began < 0.5 + 0.3
        assert diary["closed"] == diary["opened"] == 5
        for client in clients:
            await client.aclose()


async def test_the_stock_server_still_cannot_stop_with_a_stalled_reader():
    app, _ = make_app()
    async with stock(app) as server:
        client = await server.connect(receive_buffer=4096)
        await client.send_all(get("/flood"))
        await trio.sleep(0.3)
        server.stop.set()
        with trio.move_on_after(0.7):  # its grace is 0.1
            await server.ended.wait()
        assert not server.ended.is_set()
        await client.aclose()  # what alone can free it


async def test_a_reader_that_stops_is_dropped_after_the_write_stall():
    app, diary = make_app()
    async with serving(app, write_stall_s=0.3) as server, await server.connect(receive_buffer=4096) as client:
        await client.send_all(get("/flood"))
        await eventually(lambda: diary["closed"] == 1, within=3)
        assert (await read_to_end(client)).endswith(b"<reset>")


async def test_a_slow_reader_that_goes_on_reading_is_kept():
    app, diary = make_app()
    async with serving(app, write_stall_s=0.4) as server, await server.connect(receive_buffer=4096) as client:
        await client.send_all(get("/flood"))
        with trio.move_on_after(1.5):
            while True:
                assert await client.receive_some(16384)
                await trio.sleep(0.02)
        assert not diary["closed"]


async def test_connections_over_the_cap_evict_an_idle_one_or_get_503(monkeypatch):
    app, diary = make_app()
    async with serving(app, max_connections=2) as server, await server.connect() as idle:
        await trio.testing.wait_all_tasks_blocked()
        monkeypatch.setattr("clinvoker.http.connection.FRESH_S", 0)  # it had its time to ask
        async with await server.connect() as busy, await server.connect() as second:
            assert await read_to_end(idle) == b""
            await busy.send_all(get("/wait"))
            await second.send_all(get("/wait"))
            await eventually(lambda: diary["waiting"] == 2)
            answer = await server.ask(get("/health"))
            assert answer.startswith(b"HTTP/1.1 503 ")
            assert b"too_many_connections" in answer


async def test_who_has_only_just_come_is_not_evicted():
    app, _ = make_app()
    async with serving(app, max_connections=1) as server, await server.connect() as first:
        await trio.testing.wait_all_tasks_blocked()
        assert (await server.ask(get("/health"))).startswith(b"HTTP/1.1 503 ")
        await first.send_all(get("/health"))
        assert b" 200 " in await read_until(first, b"ok")


async def test_of_a_crowd_over_the_cap_not_everyone_is_told_why():
    """Each that is told holds a descriptor for as long as it likes, half a second at most."""
    app, _ = make_app()
    async with serving(app, max_connections=4) as server, AsyncExitStack() as crowd:
        before = descriptors()
        for _ in range(200):
            await crowd.enter_async_context(await server.connect())
        await trio.testing.wait_all_tasks_blocked(0.05)
        assert descriptors() - before - 200 <= 4 + 1
