"""A server of ours and a stock one, and a client that speaks in raw bytes."""

import contextlib
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import hypercorn.trio
import trio
import trio.testing
from hypercorn.config import Config

from clinvoker.http.limits import Limits
from clinvoker.http.refusal import render_json
from clinvoker.http.server import serve
from clinvoker.http.sockets import bind

WS_KEY = b"dGhlIHNhbXBsZSBub25jZQ=="
App = Callable[..., Awaitable[None]]


class Server:
    """A running server: its port, its scope, and the trigger that ends it."""

    def __init__(self, port: int):
        self.port = port
        self.stop = trio.Event()
        self.ended = trio.Event()

    async def connect(self, receive_buffer: int = 0) -> trio.SocketStream:
        if not receive_buffer:
            return await trio.open_tcp_stream("127.0.0.1", self.port)
        sock = trio.socket.socket()
        sock.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_RCVBUF, receive_buffer)
        await sock.connect(("127.0.0.1", self.port))
        return trio.SocketStream(sock)

    async def ask(self, request: bytes, within: float = 3.0) -> bytes:
        """Send bytes and return all that comes until the server closes."""
        with trio.fail_after(within):
            async with await self.connect() as client:
                await client.send_all(request)
                return await read_to_end(client)

    async def is_alive(self) -> bool:
        return b" 200 " in (await self.ask(get("/health", "Connection: close")))[:20]


@asynccontextmanager
async def serving(app: Any, render_error: Any = render_json, **limits: Any) -> AsyncIterator[Server]:
    async with trio.open_nursery() as nursery:
        sockets = bind("127.0.0.1", 0)
        server = Server(sockets[0].getsockname()[1])
        limits.setdefault("shutdown_grace_s", 0.3)

        async def run(task_status: Any) -> None:
            await serve(
                app,
                sockets,
                limits=Limits(**limits),
                shutdown_trigger=server.stop.wait,
                render_error=render_error,
                task_status=task_status,
            )
            server.ended.set()

        await nursery.start(run)
        yield server
        server.stop.set()
        with trio.fail_after(5):
            await server.ended.wait()


@asynccontextmanager
async def stock(app: Any, **settings: Any) -> AsyncIterator[Server]:
    """Hypercorn as it comes, to see that a fault is still there; cancelled at the end."""
    sockets = bind("127.0.0.1", 0)
    server = Server(sockets[0].getsockname()[1])
    config = Config.from_mapping(
        bind=[f"fd://{sockets[0].detach()}"], errorlog=None, graceful_timeout=0.1, **settings
    )
    async with trio.open_nursery() as nursery:

        async def run(task_status: Any) -> None:
            with contextlib.suppress(Exception):  # the fault that its tests look for
                await hypercorn.trio.serve(
                    app, config, shutdown_trigger=server.stop.wait, task_status=task_status
                )
            server.ended.set()

        await nursery.start(run)
        yield server
        nursery.cancel_scope.cancel()


def get(path: str, *headers: str, method: str = "GET", version: str = "1.1") -> bytes:
    return "\r\n".join([f"{method} {path} HTTP/{version}", "Host: localhost", *headers, "", ""]).encode(
        "latin1"
    )


def upgrade(path: str = "/ws", *headers: str) -> bytes:
    return get(
        path,
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Key: {WS_KEY.decode()}",
        "Sec-WebSocket-Version: 13",
        *headers,
    )


def frame(
    opcode: int, payload: bytes = b"", *, fin: bool = True, length: int | None = None, rsv: int = 0
) -> bytes:
    """A masked websocket frame; `length` lies about the payload."""
    size = len(payload) if length is None else length
    head = bytes([(0x80 if fin else 0) | rsv << 4 | opcode])
    if size < 126:
        head += bytes([0x80 | size])
    elif size < 1 << 16:
        head += bytes([0x80 | 126]) + size.to_bytes(2, "big")
    else:
        head += bytes([0x80 | 127]) + size.to_bytes(8, "big")
    return head + b"\0\0\0\0" + payload  # a mask of zeros masks nothing


async def read_to_end(client: trio.SocketStream) -> bytes:
    data = b""
    try:
        while piece := await client.receive_some(65536):
            data += piece
    except trio.BrokenResourceError:
        data += b"<reset>"
    return data


async def read_until(client: trio.SocketStream, mark: bytes, within: float = 3.0) -> bytes:
    data = b""
    with trio.fail_after(within):
        while mark not in data:
            piece = await client.receive_some(65536)
            assert piece, f"closed before {mark!r}: {data!r}"
            data += piece
    return data


async def eventually(condition: Callable[[], bool], within: float = 2.0) -> None:
    with trio.fail_after(within):
        while not condition():
            await trio.sleep(0.005)


async def settled() -> tuple[int, int]:
    """Descriptors and tasks once nothing moves any more."""
    await trio.testing.wait_all_tasks_blocked(0.05)
    return descriptors(), tasks()


def tasks() -> int:
    return trio.lowlevel.current_statistics().tasks_living


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - names are enough
