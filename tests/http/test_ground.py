"""Sockets, the app's lifespan, the cost of the start, and the names of hypercorn and quart that we stand on."""

import errno
import inspect
import socket
import subprocess
import sys
import time
from importlib.metadata import version

import h11
import hypercorn.protocol.h11
import hypercorn.protocol.http_stream
import hypercorn.protocol.ws_stream
import pytest
import quart.wrappers.response
import quart_trio
import quart_trio.asgi
import trio
from hypercorn.config import Config
from hypercorn.trio.worker_context import WorkerContext

from clinvoker.http.lifespan import LifespanError
from clinvoker.http.sockets import BindError, bind

from .apps import make_app
from .support import get, serving


def test_a_port_in_use_is_one_line():
    (first,) = bind("127.0.0.1", 0)
    port = first.getsockname()[1]
    with pytest.raises(BindError, match=rf"^127\.0\.0\.1:{port} is already in use$") as caught:
        bind("127.0.0.1", port)
    assert caught.value.errno == errno.EADDRINUSE
    first.close()


def test_unknown_names_and_foreign_addresses_are_one_line_too():
    with pytest.raises(BindError, match=r"^203\.0\.113\.1:80 is not an address of this machine$"):
        bind("203.0.113.1", 80)
    with pytest.raises(BindError, match=r"^no\.such\.invalid:80 cannot be listened on: .+$"):
        bind("no.such.invalid", 80)


@pytest.mark.skipif(not socket.has_ipv6, reason="no IPv6 here")
def test_ipv6_hosts_are_bound_with_and_without_brackets():
    for host in ("::1", "[::1]"):
        try:
            (bound,) = bind(host, 0)
        except BindError:
            pytest.skip("no IPv6 loopback here")
        assert bound.family == socket.AF_INET6
        bound.close()


async def test_a_crash_of_the_apps_own_tasks_ends_the_server():
    """platform.md row 8: stock answers 200 for ever with a dead app."""
    app, _ = make_app()

    @app.get("/crash")
    async def crash():
        async def fail():
            raise ZeroDivisionError

        app.nursery.start_soon(fail)
        return "soon"

    with pytest.RaisesGroup(LifespanError, flatten_subgroups=True, allow_unwrapped=True):
        async with serving(app) as server:
            await server.ask(get("/crash"))
            await trio.sleep(1)


async def test_an_app_that_cannot_start_is_one_error():
    app, _ = make_app()

    @app.before_serving
    async def fail():
        raise OSError("no database")

    with pytest.RaisesGroup(pytest.RaisesExc(LifespanError, match="no database"), flatten_subgroups=True):
        async with serving(app):
            raise AssertionError("it was served")


@pytest.mark.slow
def test_the_ground_is_imported_and_serving_fast():
    program = (
        "import time; t = time.perf_counter()\n"
        "import trio\n"
        "from clinvoker.http.server import serve\n"
        "from clinvoker.http.sockets import bind\n"
        "from quart_trio import QuartTrio\n"
        "async def main():\n"
        "    async with trio.open_nursery() as n:\n"
        "        stop = trio.Event()\n"
        "        async def run(task_status): await serve(QuartTrio('x'), bind('127.0.0.1', 0),\n"
        "            shutdown_trigger=stop.wait, task_status=task_status)\n"
        "        await n.start(run)\n"
        "        print(time.perf_counter() - t, open('/proc/self/status').read().split('VmRSS:')[1].split()[0])\n"
        "        stop.set()\n"
        "trio.run(main)\n"
    )
    began = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    seconds, kilobytes = map(float, done.stdout.split())
    assert kilobytes < 70_000
    assert seconds < 1.5, f"{seconds} s of {time.perf_counter() - began}"  # 0.4 alone on this machine


def test_the_names_we_stand_on_exist():
    """Private to hypercorn 0.18 and quart-trio 0.12: if this fails, read the new version before you go on."""
    assert version("hypercorn").startswith("0.18.")
    assert version("quart-trio").startswith("0.12.")
    h1 = hypercorn.protocol.h11
    for name in (
        "_handle_events",
        "_send_h11_event",
        "_maybe_recycle",
        "_close_stream",
        "stream_send",
        "handle",
    ):
        assert inspect.iscoroutinefunction(getattr(h1.H11Protocol, name)), name
    assert h1.STREAM_ID == 1
    parameters = [
        "self",
        "app",
        "config",
        "context",
        "task_group",
        "connection_state",
        "ssl",
        "client",
        "server",
        "send",
    ]
    assert list(inspect.signature(h1.H11Protocol.__init__).parameters) == parameters
    protocol = h1.H11Protocol(None, Config(), WorkerContext(None), None, {}, *[None] * 4)
    attributes = (
        "can_read",
        "connection",
        "keep_alive_requests",
        "stream",
        "send",
        "context",
        "connection_state",
    )
    assert not [name for name in attributes if not hasattr(protocol, name)]
    assert isinstance(h1.H11WSConnection(h11.Connection(h11.SERVER)).buffer, bytearray)

    ws = hypercorn.protocol.ws_stream
    for name in ("_handle_events", "_send_wsproto_event", "_accept", "app_send", "handle"):
        assert inspect.iscoroutinefunction(getattr(ws.WSStream, name)), name
    streams = [
        "self",
        "app",
        "config",
        "context",
        "task_group",
        "ssl",
        "client",
        "server",
        "send",
        "stream_id",
    ]
    for stream in (ws.WSStream, hypercorn.protocol.http_stream.HTTPStream):
        assert list(inspect.signature(stream.__init__).parameters) == streams
    socket_stream = ws.WSStream(None, Config(), *[None] * 6, 1)
    assert socket_stream.app_put is None
    assert socket_stream.closed is False
    assert ws.ASGIWebsocketState.CONNECTED is not socket_stream.state
    assert ws.Handshake([], "1.1").accepted is False

    assert quart_trio.QuartTrio.asgi_websocket_class is quart_trio.asgi.TrioASGIWebsocketConnection
    assert "send_channel" in inspect.getsource(quart_trio.asgi.TrioASGIWebsocketConnection.__init__)
    assert inspect.isabstract(quart.wrappers.response.ResponseBody)
