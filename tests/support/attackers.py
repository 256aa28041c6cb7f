"""Many connections that mean no good, in a process of their own: python -m tests.support.attackers PORT CONNECTIONS SECONDS

Writes a line once all have begun, and at the end how often each attack was made, as JSON.
"""

import itertools
import json
import socket
import struct
import sys
from collections import Counter
from collections.abc import Awaitable, Callable
from functools import partial

import trio

PAUSE = 1.0
"""Seconds between two attacks of one attacker, and between two bytes of a slow one."""
ORDER = b"POST /api/v1/prompt HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
HEALTH = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"
UPGRADE = (
    b"GET /api/v1/ws HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
)
Attack = Callable[[trio.SocketStream], Awaitable[None]]


def says(data: bytes) -> Attack:
    """Say it all, and read until the server has had enough."""

    async def attack(stream: trio.SocketStream) -> None:
        await stream.send_all(data)
        while await stream.receive_some(65536):
            pass

    return attack


def drips(start: bytes, drop: bytes) -> Attack:
    """Begin, and go on slowly without an end; whatever comes back is not read."""

    async def attack(stream: trio.SocketStream) -> None:
        await stream.send_all(start)
        while True:
            await trio.sleep(PAUSE)
            await stream.send_all(drop)

    return attack


def floods(start: bytes, drop: bytes) -> Attack:
    """Begin, and go on as fast as it is taken."""

    async def attack(stream: trio.SocketStream) -> None:
        await stream.send_all(start)
        while True:
            await stream.send_all(drop)
            await trio.sleep(0.02)

    return attack


ATTACKS: dict[str, Attack] = {
    "two lengths": says(ORDER + b"Content-Length: 5\r\nContent-Length: 5\r\n\r\n0\r\n\r\n" + HEALTH),
    "length and chunks": says(
        ORDER + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + HEALTH
    ),
    "bare LF": says(HEALTH.replace(b"\r\n", b"\n") * 20),
    "slow head": drips(b"GET /health HTTP/1.1\r\nHost: localhost\r\n", b"X: a\r\n"),
    "slow body": drips(ORDER + b"Content-Length: 99999\r\n\r\n{", b" "),
    "slow chunks": drips(ORDER + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n"),
    "endless head": floods(b"GET /health HTTP/1.1\r\nHost: localhost\r\n", b"X: a\r\n" * 200),
    "endless line": floods(b"GET /", b"a" * 2000),
    "h2 preface": says(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0" * 50),
    "tls hello": says(b"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03" + bytes(range(200))),
    "half an upgrade": drips(UPGRADE, b"X: a\r\n"),
    "an early frame": says(UPGRADE + b"\r\n\x81\x85\0\0\0\0hello"),
    "garbage behind a request": says(HEALTH + bytes(range(256)) * 20),
    "pipelines without reading": drips(HEALTH * 200, HEALTH * 50),
    "says nothing": drips(b"", b""),
}


async def attacker(port: int, name: str, begun: trio.Event, counts: Counter[str], *, rudely: bool) -> None:
    """Make one attack again and again."""
    while True:
        sock = trio.socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        try:
            await sock.connect(("127.0.0.1", port))
            begun.set()
            counts[name] += 1
            await ATTACKS[name](trio.SocketStream(sock))
        except (OSError, trio.BrokenResourceError):
            pass  # shown the door
        finally:
            if rudely and sock.fileno() >= 0:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            sock.close()
        await trio.sleep(PAUSE)


async def main(port: int, connections: int, seconds: float) -> None:
    """Attack from so many connections, for so long once all have come through."""
    counts: Counter[str] = Counter()
    async with trio.open_nursery() as nursery:
        begun: list[trio.Event] = []
        for number, name in zip(range(connections), itertools.cycle(ATTACKS)):
            begun.append(trio.Event())
            attack = partial(attacker, rudely=number % 2 == 0)
            nursery.start_soon(attack, port, name, begun[-1], counts)
        for event in begun:
            await event.wait()
        await trio.sleep(PAUSE / 2)
        print("begun", flush=True)  # noqa: T201
        await trio.sleep(seconds)
        nursery.cancel_scope.cancel()
    print(json.dumps(counts), flush=True)  # noqa: T201


if __name__ == "__main__":
    trio.run(main, int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]))
