"""Bad wires between a caller and the daemon: a proxy that passes everything on, badly. The names are toxiproxy's.

async with proxied(daemon.client.port, Latency(0.3, 0.2)) as port:
    await Client(port).ask("hello")
"""

from __future__ import annotations

import math
import random
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial

import trio

_RESET = struct.pack("ii", 1, 0)


class Toxic:
    """What happens to a piece of bytes on its way. This one does nothing to it."""

    most = 65536
    """Bytes in a piece."""
    breaks_after = math.inf
    """Bytes from the daemon after which both ends are reset."""

    async def delay(self, piece: bytes) -> None:
        """Keep a piece back for as long as the wire does."""


class Slicer(Toxic):
    """Every byte comes alone."""

    most = 1


class Latency(Toxic):
    """Every piece is late by `seconds`, give or take `jitter`."""

    def __init__(self, seconds: float, jitter: float):
        self._bounds = seconds - jitter, seconds + jitter
        self._dice = random.Random(37)  # noqa: S311 - nothing secret

    async def delay(self, piece: bytes) -> None:
        del piece
        await trio.sleep(self._dice.uniform(*self._bounds))


class Bandwidth(Toxic):
    """So many bytes go through in a second."""

    def __init__(self, bytes_per_second: int):
        self._rate = bytes_per_second
        self.most = max(bytes_per_second // 20, 1)

    async def delay(self, piece: bytes) -> None:
        await trio.sleep(len(piece) / self._rate)


class ResetPeer(Toxic):
    """Both ends are reset after so many bytes from the daemon."""

    def __init__(self, after: int):
        self.breaks_after = after


@asynccontextmanager
async def proxied(port: int, toxic: Toxic) -> AsyncIterator[int]:
    """Stand before `port` of this machine; yields the port to connect to. Open connections are closed at the end."""
    async with trio.open_nursery() as nursery:
        serve = partial(trio.serve_tcp, partial(_join, port, toxic), 0, host="127.0.0.1")
        listeners = await nursery.start(serve)
        yield listeners[0].socket.getsockname()[1]
        nursery.cancel_scope.cancel()


async def _join(port: int, toxic: Toxic, caller: trio.SocketStream) -> None:
    async with await trio.open_tcp_stream("127.0.0.1", port) as daemon, trio.open_nursery() as ways:
        ways.start_soon(_pass_on, caller, daemon, toxic, math.inf)
        await _pass_on(daemon, caller, toxic, toxic.breaks_after)
        if toxic.breaks_after < math.inf:
            for stream in (caller, daemon):
                stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        ways.cancel_scope.cancel()


async def _pass_on(source: trio.SocketStream, sink: trio.SocketStream, toxic: Toxic, most: float) -> None:
    passed = 0
    with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
        while passed < most and (data := await source.receive_some(int(min(toxic.most, most - passed)))):
            await toxic.delay(data)
            await sink.send_all(data)
            passed += len(data)
        if passed < most:
            await sink.send_eof()
