"""A caller who leaves cancels the handler, whatever he sent before: platform.md rows 4, 5, 6 and 7."""

import struct

import pytest
import trio
import trio.testing

from clinvoker.http.stream import streaming

from .apps import make_app
from .support import descriptors, eventually, get, read_to_end, read_until, serving, settled, stock, tasks

NEXT = get("/health")


@pytest.mark.parametrize("extra", [b"", b"\r\n", b"x", NEXT], ids=["nothing", "newline", "byte", "pipelined"])
@pytest.mark.parametrize("path", ["/wait", "/quiet"])
@pytest.mark.parametrize("when", ["together", "later"])
async def test_leaving_cancels_the_handler(path, extra, when):
    app, diary = make_app()
    async with serving(app) as server:
        _, before = await settled()
        client = await server.connect()
        await client.send_all(get(path) + (extra if when == "together" else b""))
        await eventually(lambda: diary["waiting"] + diary["begun"] == 1)
        if when == "later":
            await client.send_all(extra)
            await trio.testing.wait_all_tasks_blocked(0.01)
        await client.aclose()
        await eventually(lambda: diary["cancelled"] + diary["closed"] == 1, within=1)
        await eventually(lambda: tasks() == before)


async def test_the_stock_server_still_does_not_notice_behind_a_pipelined_request():
    app, diary = make_app()
    async with stock(app) as server:
        client = await server.connect()
        await client.send_all(get("/wait") + NEXT)
        await eventually(lambda: diary["waiting"] == 1)
        await client.aclose()
        await trio.sleep(0.3)
        assert diary["cancelled"] == 0


@pytest.mark.parametrize("how", ["half-close", "reset"])
async def test_half_closing_and_resetting_are_leaving(how):
    app, diary = make_app()
    async with serving(app) as server:
        client = await server.connect()
        await client.send_all(get("/wait"))
        await eventually(lambda: diary["waiting"] == 1)
        if how == "reset":
            client.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.socket.close()
        else:
            await client.send_eof()
        await eventually(lambda: diary["cancelled"] == 1, within=1)
        await client.aclose()


async def test_leaving_at_every_offset_of_a_request_leaks_nothing():
    app, diary = make_app()
    request = get("/ticks", "X-Some: header") + b"x"
    async with serving(app) as server:
        before = await settled()
        for offset in range(0, len(request) + 1, 3):
            async with await server.connect() as client:
                await client.send_all(request[:offset])
        await eventually(lambda: (descriptors(), tasks()) == before, within=4)
        assert diary["opened"] == diary["closed"]


async def test_pipelined_requests_are_answered_in_turn():
    app, _ = make_app()
    async with serving(app) as server, await server.connect() as client:
        await client.send_all(get("/pause") + get("/health") + get("/health", "Connection: close"))
        answer = await read_to_end(client)
        assert answer.count(b"HTTP/1.1 200") == 3
        assert answer.index(b"paused") < answer.index(b"ok")


async def test_who_floods_behind_a_running_request_is_dropped():
    app, diary = make_app()
    async with serving(app) as server, await server.connect() as client:
        await client.send_all(get("/wait"))
        with pytest.raises(trio.BrokenResourceError), trio.fail_after(3):
            await client.send_all(b"x" * 100_000_000)
        assert diary["cancelled"] == 1


async def test_a_request_sent_at_the_last_byte_of_an_answer_is_answered():
    """The client may see the whole answer before the server's last send has returned."""
    app, _ = make_app()
    async with serving(app) as server, await server.connect() as client:
        for _ in range(300):
            await client.send_all(NEXT)
            await read_until(client, b"ok")


async def test_resources_close_when_the_caller_leaves_before_the_body_is_begun():
    app, diary = make_app()
    async with serving(app) as server:
        client = await server.connect()
        await client.send_all(get("/slow-to-stream"))
        await eventually(lambda: diary["handled"] == 1)
        await client.aclose()
        await eventually(lambda: diary["closed"] == 1)
        assert diary["begun"] == 0


async def test_head_of_a_stream_is_its_headers_and_runs_nothing():
    app, diary = make_app()
    async with serving(app) as server, await server.connect() as client:
        await client.send_all(get("/slow-to-stream", method="HEAD"))
        answer = await read_until(client, b"\r\n\r\n")
        assert b"text/event-stream" in answer
        await eventually(lambda: diary["closed"] == 1)
        await client.send_all(get("/health"))  # and the connection goes on
        await read_until(client, b"ok")


async def test_head_of_a_plain_answer_has_its_length_and_no_body():
    app, _ = make_app()
    async with serving(app) as server:
        answer = await server.ask(get("/health", "Connection: close", method="HEAD"))
        assert b"content-length: 16" in answer
        assert answer.endswith(b"\r\n\r\n")


async def test_a_quiet_stream_has_a_heartbeat():
    app, diary = make_app()
    async with serving(app) as server, await server.connect() as client:
        await client.send_all(get("/quiet"))
        data = await read_until(client, b": beat\n\n")
        assert data.index(b"once") < data.index(b": beat")
        await read_until(client, b": beat\n\n")
        assert diary["begun"] == 1


async def test_a_busy_stream_has_none():
    app, _ = make_app()

    @app.get("/busy")
    async def busy():
        async def body():
            for _ in range(15):
                yield b"data\n"
                await trio.sleep(0.03)

        return streaming(body(), "application/x-ndjson", heartbeat=b"\n", heartbeat_s=0.2)

    async with serving(app) as server:
        answer = await server.ask(get("/busy", "Connection: close"))
        assert answer.count(b"data\n") == 15
        assert b"\r\n1\r\n\n\r\n" not in answer


async def test_a_stream_that_fails_is_cut_so_that_the_caller_sees_it():
    app, _ = make_app()
    async with serving(app) as server:
        answer = await server.ask(get("/breaks"))
        assert b"begun" in answer
        assert not answer.endswith(b"0\r\n\r\n")
        assert await server.is_alive()


async def test_quart_does_not_cut_a_stream_by_its_own_timeout():
    app, _ = make_app()
    app.config["RESPONSE_TIMEOUT"] = 0.1

    @app.get("/plain")
    async def plain():
        async def body():
            while True:
                yield b"tick"
                await trio.sleep(0.02)

        return body()

    async with serving(app) as server, await server.connect() as client:
        await client.send_all(get("/plain"))
        with trio.move_on_after(0.5):
            while await client.receive_some(1024):
                pass
            raise AssertionError("the stream was cut")


async def test_two_hundred_streams_run_and_end_together():
    app, diary = make_app()
    async with serving(app, shutdown_grace_s=0.5) as server:
        _, before = await settled()
        clients = [await server.connect() for _ in range(200)]
        for client in clients:
            await client.send_all(get("/ticks"))
        for client in clients:
            await read_until(client, b"tick")
        for client in clients:
            await client.aclose()
        await eventually(lambda: diary["closed"] == 200)
        await eventually(lambda: tasks() == before)
