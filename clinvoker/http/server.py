"""serve(): accept connections, cap them, and stop within the grace."""

import logging
import socket
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from functools import partial
from typing import cast

import trio
from hypercorn.config import Config
from hypercorn.trio.worker_context import WorkerContext
from quart_trio import QuartTrio

from clinvoker.http.connection import Connection
from clinvoker.http.exchange import App
from clinvoker.http.lifespan import lifespan
from clinvoker.http.limits import Limits
from clinvoker.http.quartfix import fix
from clinvoker.http.refusal import RenderError, render_json
from clinvoker.http.shared import Shared

_TURN_AWAY_S = 0.5
_TURNED_AWAY = 64  # at most, and a quarter of the places
_STOP_S = 0.2


async def serve(
    app: App | QuartTrio,
    sockets: list[socket.socket],
    *,
    limits: Limits | None = None,
    shutdown_trigger: Callable[[], Awaitable[None]],
    render_error: RenderError = render_json,
    may_connect: Callable[[trio.SocketStream], bool] = lambda _: True,
    task_status: trio.TaskStatus[list[str]] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve `app` over HTTP/1.1 and websockets on listening `sockets` (see `sockets.bind`), which this closes.

    `task_status` reports the URLs. Whoever `may_connect` does not let in finds the connection closed. When `shutdown_trigger` returns, in this order: nobody new is accepted; idle
    connections are closed and websockets get 1001; answers under way may end, as the last of their connections; what
    is left after `limits.shutdown_grace_s` is cancelled. A reader that has stopped reading delays this no further.

    A caller's disconnect cancels its handler. A failing connection fails alone. Errors that the server itself answers
    (400, 408, 413, 414, 431, 500, 503, 505) are written by `render_error`.

    Raises (inside of an ExceptionGroup):
        LifespanError: the app could not start, or its own tasks ended.
    """
    limits = limits or Limits()
    if isinstance(app, QuartTrio):
        fix(app)
    context = WorkerContext(None)
    shared = Shared(cast("App", app), limits, render_error, _config(limits), context, trio.Lock())
    live: dict[Connection, None] = {}  # in the order of their coming
    told_why = trio.Semaphore(min(_TURNED_AWAY, max(1, limits.max_connections // 4)))
    listeners = [trio.SocketListener(trio.socket.from_stdlib_socket(bound)) for bound in sockets]

    async def welcome(stream: trio.SocketStream) -> None:
        if not may_connect(stream):
            stream.socket.close()
            return
        if len(live) >= limits.max_connections and not _evict_idle(live):
            await _turn_away(stream, shared, told_why)
            return
        connection = Connection(stream, shared)
        live[connection] = None
        try:
            await connection.run()
        finally:
            live.pop(connection, None)

    with ExitStack() as held:
        for listener in listeners:  # they are ours from here on, also when the app cannot start
            held.callback(listener.socket.close)
        async with lifespan(shared.app, _STOP_S), trio.open_nursery() as connections:
            async with trio.open_nursery() as accepting:
                accept = partial(trio.serve_listeners, welcome, listeners, handler_nursery=connections)
                await accepting.start(accept)
                task_status.started([_url(bound) for bound in sockets])
                await shutdown_trigger()
                accepting.cancel_scope.cancel()
            await context.terminated.set()
            for connection in tuple(live):
                connection.go_away()
            connections.cancel_scope.deadline = trio.current_time() + limits.shutdown_grace_s


def _config(limits: Limits) -> Config:
    config = Config()
    config.accesslog = None
    config.errorlog = logging.getLogger("clinvoker.http.hypercorn")
    config.include_server_header = False
    config.h11_max_incomplete_size = limits.header_bytes + limits.url_bytes
    config.websocket_max_message_size = limits.ws_message_bytes
    return config


def _url(bound: socket.socket) -> str:
    if bound.family == socket.AF_UNIX:
        return f"unix:{bound.getsockname()}"
    host, port = bound.getsockname()[:2]
    return f"http://[{host}]:{port}" if bound.family == socket.AF_INET6 else f"http://{host}:{port}"


def _evict_idle(live: dict[Connection, None]) -> bool:
    """Make room by closing the oldest connection on which nothing is asked; False if there is none."""
    for connection in live:
        if connection.idle():
            del live[connection]
            connection.close()
            return True
    return False


async def _turn_away(stream: trio.SocketStream, shared: Shared, told_why: trio.Semaphore) -> None:
    """Answer 503; where more come at once than can be told why, just close: each that is told holds a descriptor."""
    try:
        told_why.acquire_nowait()
    except trio.WouldBlock:
        await trio.aclose_forcefully(stream)
        return
    try:
        await _tell_why(stream, shared)
    finally:
        told_why.release()


async def _tell_why(stream: trio.SocketStream, shared: Shared) -> None:
    message = f"all {shared.limits.max_connections} connections are in use"
    body, headers = shared.render_error(503, "too_many_connections", message, {})
    head = b"HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\ncontent-length: %d\r\n" % len(body)
    head += b"".join(b"%b: %b\r\n" % entry for entry in headers)
    with trio.move_on_after(_TURN_AWAY_S):
        try:
            await stream.send_all(head + b"\r\n" + body)
            await stream.send_eof()
            while await stream.receive_some():
                pass
        except trio.BrokenResourceError:
            pass
