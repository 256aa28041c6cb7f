"""No input ends the server, and none leaves anything behind: platform.md row 1, faults.md F37 and F38."""

import random
import struct

import pytest
import trio

from .apps import make_app
from .support import descriptors, eventually, frame, get, serving, settled, stock, tasks, upgrade

SEED = 20261124
POST = get("/length", "Content-Length: 5", method="POST")
CHUNKED = get("/length", "Transfer-Encoding: chunked", method="POST")

PROBES = {
    "handshake with a byte": upgrade() + b"x",
    "handshake with a frame": upgrade() + frame(1, b"hello"),
    "handshake twice": upgrade() + upgrade(),
    "0xff in protocol": upgrade().replace(
        b"Sec-WebSocket-V", b"Sec-WebSocket-Protocol: \xff\r\nSec-WebSocket-V"
    ),
    "0xff in extensions": upgrade().replace(
        b"Sec-WebSocket-V", b"Sec-WebSocket-Extensions: \xff\r\nSec-WebSocket-V"
    ),
    "0xff in connection": upgrade().replace(b"Connection: Upgrade", b"Connection: Upgrade, \xff"),
    "0xff in upgrade": upgrade().replace(b": websocket", b": websocket\xff"),
    "0xff in key": upgrade().replace(b"Key: ", b"Key: \xff"),
    "0xff in version": upgrade().replace(b"Version: 13", b"Version: \xff"),
    "0xff in host": b"GET /health HTTP/1.1\r\nHost: \xff\r\n\r\n",
    "0xff in path": b"GET /\xff HTTP/1.1\r\nHost: a\r\n\r\n",
    "encoded 0xff and NUL in path": get("/%ff%00%0a"),
    "0xff in query": get("/health?%ff=%00"),
    "0xff in cookie": b"GET /health HTTP/1.1\r\nHost: a\r\nCookie: \xff=\xff\r\nContent-Type: \xff\r\n\r\n",
    "h2 preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00",
    "h2c upgrade": get(
        "/health", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA", "Connection: Upgrade"
    ),
    "h2c with a bad setting": get("/health", "Upgrade: h2c", "HTTP2-Settings: \xff", "Connection: Upgrade"),
    "bad chunk size": CHUNKED + b"zz\r\n",
    "huge chunk size": CHUNKED + b"ffffffffffffffffffff\r\n",
    "bytes behind a body": POST + b"12345678",
    "end in a body": POST + b"12",
    "tls hello": b"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03" + bytes(range(200)),
    "zeros": b"\0" * 1000,
    "only newlines": b"\r\n" * 1000,
    "negative length": get("/length", "Content-Length: -1", method="POST"),
    "long length": get("/length", "Content-Length: " + "9" * 5000, method="POST"),
    "range and encodings": get("/health", "Range: bytes=9-1", "If-Range: x", "Accept: \x01".strip("\x01")),
    "absolute with a bad port": get("http://localhost:99999999/health"),
    "absolute with a bracket": get("http://[::/health"),
    "websocket by post": upgrade().replace(b"GET", b"POST"),
    "websocket in 1.0": upgrade().replace(b"HTTP/1.1", b"HTTP/1.0"),
    "websocket with a body": upgrade("/ws", "Content-Length: 3") + b"abc",
    "frame after close": upgrade("/deaf") + frame(8) + frame(1, b"x"),
}


async def probe(server, payload: bytes, end: str, patience: float = 0.02) -> None:
    client = await server.connect()
    try:
        with trio.move_on_after(patience):
            await client.send_all(payload)
            if end == "half-close":
                await client.send_eof()
            while await client.receive_some(65536):
                pass
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        pass
    finally:
        if end == "reset":
            client.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.socket.close()


async def test_no_hostile_input_ends_the_server_or_stays():
    app, diary = make_app()
    async with serving(app) as server:
        assert await server.is_alive()
        before = await settled()
        for payload in PROBES.values():
            for end in ("close", "half-close", "reset"):
                await probe(server, payload, end)
        assert await server.is_alive()
        await eventually(lambda: (descriptors(), tasks()) == before, within=4)
        assert diary["opened"] == diary["closed"]


async def test_no_hostile_input_fails_inside_of_a_connection(caplog):
    """Isolation is the net; none of the known inputs may fall into it."""
    app, _ = make_app()
    async with serving(app) as server:
        for payload in PROBES.values():
            await probe(server, payload, "close")
    assert "a connection failed" not in caplog.text


async def test_an_error_in_one_connection_is_that_connections(caplog, monkeypatch):
    async def fail(*_):
        raise ZeroDivisionError

    app, diary = make_app()
    async with serving(app) as server:
        neighbour = await server.connect()
        await neighbour.send_all(get("/wait"))
        await eventually(lambda: diary["waiting"] == 1)
        with monkeypatch.context() as patch:
            patch.setattr("clinvoker.http.http1.Http1.received", fail)
            assert await server.ask(get("/health")) == b""
        assert await server.is_alive()
        assert diary["cancelled"] == 0
        await neighbour.aclose()
    assert "a connection failed" in caplog.text


@pytest.mark.parametrize("name", ["handshake with a byte", "0xff in protocol"])
async def test_the_stock_server_is_still_ended_by_one_packet(name):
    app, _ = make_app()
    async with stock(app) as server:
        await probe(server, PROBES[name], "close")
        with trio.fail_after(2):
            await server.ended.wait()


def mutate(dice: random.Random, payload: bytes) -> bytes:
    data = bytearray(payload)
    for _ in range(dice.randint(1, 4)):
        at = dice.randrange(len(data) + 1)
        match dice.randrange(5):
            case 0:
                data[at:at] = dice.randbytes(dice.randint(1, 4))
            case 1:
                del data[at : at + dice.randint(1, 8)]
            case 2 if at < len(data):
                data[at] = dice.choice((0, 10, 13, 32, 58, 127, 255))
            case 3 if at < len(data):
                data[at] ^= 1 << dice.randrange(8)
            case _:
                data += dice.choice((b"\r\n", b"0\r\n\r\n", get("/health"), frame(1, b"z")))
    return bytes(data[: dice.randint(1, len(data) + 50)]) or b"\0"


async def test_two_thousand_mutated_inputs_do_no_harm(caplog):
    app, diary = make_app()
    dice = random.Random(SEED)  # noqa: S311 - nothing secret
    corpus = [
        *PROBES.values(),
        get("/health"),
        POST + b"12345",
        CHUNKED + b"3\r\nabc\r\n0\r\n\r\n",
        get("/ticks"),
    ]
    async with serving(app, max_connections=100) as server:
        assert await server.is_alive()
        before = await settled()
        limiter = trio.CapacityLimiter(32)

        async def one(payload: bytes, end: str) -> None:
            async with limiter:
                await probe(server, payload, end, patience=0.03)

        async with trio.open_nursery() as nursery:
            for _ in range(2000):
                nursery.start_soon(
                    one, mutate(dice, dice.choice(corpus)), dice.choice(("close", "half-close", "reset"))
                )
        assert await server.is_alive()
        await eventually(lambda: (descriptors(), tasks()) == before, within=4)
    assert "a connection failed" not in caplog.text
    assert diary["opened"] == diary["closed"]
