"""Websockets are bounded and always say why they close: platform.md row 11."""

import pytest
import trio
from trio_websocket import open_websocket_url

from .apps import make_app
from .support import Server, eventually, frame, get, read_to_end, read_until, serving, stock, upgrade

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10


async def opened(server: Server, path: str = "/ws", *headers: str) -> trio.SocketStream:
    client = await server.connect()
    await client.send_all(upgrade(path, *headers))
    answer = await read_until(client, b"\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 101 "), answer
    return client


def close_code(data: bytes) -> int:
    """The code of the close frame at the end of what the server sent."""
    at = data.rindex(b"\x88")
    return int.from_bytes(data[at + 2 : at + 4], "big")


async def opened_and_used(server: Server, path: str = "/ws") -> trio.SocketStream:
    client = await server.connect()
    await client.send_all(upgrade(path))
    await trio.sleep(0.05)
    return client


VIOLATIONS = {
    "reserved bit": (frame(TEXT, b"a", rsv=4), 1002),
    "unknown opcode": (frame(3, b"a"), 1002),
    "unmasked": (b"\x81\x01a", 1002),
    "fragmented ping": (frame(PING, b"", fin=False), 1002),
    "long ping": (frame(PING, b"x" * 126), 1002),
    "continuation of nothing": (frame(0, b"a"), 1002),
    "one byte close": (frame(CLOSE, b"\x03"), 1002),
    "bad close code": (frame(CLOSE, (1005).to_bytes(2, "big")), 1002),
    "not utf-8": (frame(TEXT, b"\xff\xfe"), 1007),
    "not utf-8 in close": (frame(CLOSE, (1000).to_bytes(2, "big") + b"\xff"), 1007),
    "too large": (frame(TEXT, b"x" * 2001), 1009),
    "too large in pieces": (
        frame(TEXT, b"x" * 1000, fin=False) + frame(0, b"x" * 1000, fin=False) + frame(0, b"x"),
        1009,
    ),
    "too large in bytes": (frame(TEXT, "é".encode() * 1001), 1009),
    "huge length": (frame(BINARY, b"x" * 3000, length=1 << 62), 1009),
    "closed well": (frame(CLOSE, (1000).to_bytes(2, "big")), 1000),
}


@pytest.mark.parametrize("name", VIOLATIONS)
async def test_every_end_has_its_close_code(name):
    sent, code = VIOLATIONS[name]
    app, _ = make_app()
    async with serving(app, ws_message_bytes=2000) as server:
        client = await opened_and_used(server)
        await client.send_all(frame(TEXT, b"hi") + sent)
        with trio.fail_after(2):
            assert close_code(await read_to_end(client)) == code
        await client.aclose()


async def test_the_stock_server_still_gives_a_bare_end():
    app, _ = make_app()
    async with stock(app) as server:
        client = await opened_and_used(server)
        await client.send_all(frame(TEXT, b"hi") + frame(3, b"a"))
        with trio.move_on_after(0.5):
            assert b"\x88" not in await read_to_end(client)
        await client.aclose()


async def test_deflate_is_not_negotiated():
    app, _ = make_app()
    async with serving(app) as server, await server.connect() as client:
        await client.send_all(upgrade("/deaf", "Sec-WebSocket-Extensions: permessage-deflate"))
        answer = await read_until(client, b"\r\n\r\n")
        assert b" 101 " in answer
        assert b"deflate" not in answer
    async with stock(app) as server, await server.connect() as client:
        await client.send_all(upgrade("/deaf", "Sec-WebSocket-Extensions: permessage-deflate"))
        assert b"deflate" in await read_until(client, b"\r\n\r\n")


async def test_a_client_talks_and_closes():
    app, diary = make_app()
    async with serving(app) as server, open_websocket_url(f"ws://127.0.0.1:{server.port}/ws") as client:
        for message in ("text", b"bytes", b"", "", "x" * 500_000):
            await client.send_message(message)
            assert await client.get_message() == message
        assert diary["message"] == 5


async def test_fragments_are_joined():
    app, _ = make_app()
    async with serving(app) as server:
        client = await opened_and_used(server)
        snowman = "☃".encode()
        await client.send_all(frame(TEXT, snowman[:1], fin=False) + frame(PING, b"p") + frame(0, snowman[1:]))
        data = await read_until(client, snowman)
        assert b"\x8a\x01p" in data
        await client.aclose()


async def test_shutdown_says_1001():
    app, diary = make_app()
    async with serving(app, shutdown_grace_s=3) as server:
        client = await opened(server, "/deaf")
        await eventually(lambda: diary["waiting"] == 1)
        server.stop.set()
        with trio.fail_after(0.9):
            assert close_code(await read_to_end(client)) == 1001
            await server.ended.wait()  # although this client never closes
        assert diary["cancelled"] == 1
        await client.aclose()


@pytest.mark.parametrize("how", ["close frame", "end", "nothing"])
async def test_a_handler_that_does_not_receive_is_cancelled_when_the_peer_goes(how):
    app, diary = make_app()
    async with serving(app, ws_ping_s=0.2) as server:
        client = await opened(server, "/deaf")
        await eventually(lambda: diary["waiting"] == 1)
        if how == "close frame":
            await client.send_all(frame(CLOSE, (1000).to_bytes(2, "big")))
        elif how == "end":
            await client.send_eof()
        # "nothing": no pong comes either
        await eventually(lambda: diary["cancelled"] == 1, within=2.5)
        await client.aclose()


async def test_a_peer_that_answers_pings_is_kept():
    app, diary = make_app()
    async with (
        serving(app, ws_ping_s=0.1) as server,
        open_websocket_url(f"ws://127.0.0.1:{server.port}/deaf"),
    ):
        await trio.sleep(0.6)
        assert diary["cancelled"] == 0


async def test_frames_before_the_answer_are_refused():
    app, _ = make_app()
    async with serving(app) as server:
        assert (await server.ask(upgrade() + b"x")).startswith(b"HTTP/1.1 400")
        assert await server.is_alive()


async def test_the_stock_server_still_ends_when_frames_come_before_the_answer():
    app, _ = make_app()
    async with stock(app) as server:
        client = await server.connect()
        await client.send_all(upgrade() + b"x")
        with trio.fail_after(2):
            await server.ended.wait()
        await client.aclose()


@pytest.mark.parametrize(
    "headers", [["Sec-WebSocket-Version: 12"], ["Sec-WebSocket-Version: 13"]], ids=["version", "no key"]
)
async def test_a_bad_handshake_is_refused_and_closed(headers):
    app, _ = make_app()
    async with serving(app) as server:
        answer = await server.ask(get("/ws", "Upgrade: websocket", "Connection: Upgrade", *headers))
        assert answer.startswith(b"HTTP/1.1 400")
        assert b'"error"' in answer


async def test_an_unknown_path_is_404_and_closed():
    app, _ = make_app()
    async with serving(app) as server:
        assert (await server.ask(upgrade("/nowhere"))).startswith(b"HTTP/1.1 404")


async def test_endless_fragments_and_floods_of_pings_fill_no_memory():
    app, _ = make_app()
    async with serving(app, write_stall_s=0.5) as server:
        for attack in (frame(0, b"", fin=False) * 2000, frame(PING, b"x" * 125) * 500):
            client = await opened_and_used(server)
            await client.send_all(frame(TEXT, b"a", fin=False) if attack[0] == 0 else frame(TEXT, b"a"))
            with trio.move_on_after(0.8):
                try:
                    while True:
                        await client.send_all(attack)
                except trio.BrokenResourceError:
                    pass
            assert await server.is_alive()
            await client.aclose()


async def test_a_flood_that_the_handler_does_not_take_waits():
    app, diary = make_app()
    async with serving(app, ws_message_bytes=10_000) as server:
        client = await opened(server, "/deaf")
        sent = 0
        with trio.move_on_after(0.5):
            while True:
                await client.send_all(frame(BINARY, b"x" * 9000))
                sent += 9000
        assert sent < 30_000_000
        assert diary["cancelled"] == 0
        await client.aclose()
