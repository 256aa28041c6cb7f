"""What the tests of the websocket share: a client's end of it, whole or as raw frames."""

import json
import socket
import struct
from contextlib import asynccontextmanager

import trio
from trio_websocket import ConnectionClosed, open_websocket_url

from tests.http.support import frame, read_until, upgrade
from tests.support.client import TERMINAL

PATH = "/api/v1/ws"
GRACE = 0.3
TEXT, BINARY, CLOSE = 1, 2, 8


class Line:
    """A client's end of a websocket: what it was told, by ref."""

    def __init__(self, connection):
        self.connection = connection
        self.told = []

    async def send(self, op, **fields):
        await self.connection.send_message(json.dumps({"op": op, **fields}))

    async def next(self, within=5.0):
        with trio.fail_after(within):
            event = json.loads(await self.connection.get_message())
        self.told.append(event)
        return event

    async def until(self, condition, within=10.0):
        """Read until an event of which this holds, and return it."""
        with trio.fail_after(within):
            while not condition(event := await self.next(within)):
                pass
        return event

    async def ask(self, op, **fields):
        """Send, and return the next event."""
        await self.send(op, **fields)
        return await self.next()

    async def begun(self, ref):
        """Read until the run of this ref has said something; return its id."""
        event = await self.until(lambda event: event.get("ref") == ref and event["type"] == "message")
        return event["run_id"]

    async def ends(self, *refs):
        """Read until all these have their last event."""
        missing = {*refs} - {event.get("ref") for event in self.told if event["type"] in TERMINAL}
        while missing:
            missing.discard((await self.until(lambda event: event["type"] in TERMINAL))["ref"])

    async def closed(self, pause=0.0):
        """Read to the end, with a pause after every 512 frames; return the close code."""
        try:
            while True:
                await self.next(12)
                if pause and len(self.told) % 512 == 0:
                    await trio.sleep(pause)
        except ConnectionClosed as end:
            return end.reason.code

    def of(self, ref):
        return [event for event in self.told if event.get("ref") == ref and "seq" in event]

    def text(self, ref):
        return "".join(event["content"]["text"] for event in self.of(ref) if event["type"] == "message")


async def let_go(connection):
    """Close, and also the socket, which trio-websocket forgets when the server closed first."""
    await connection.aclose()
    await connection._stream.aclose()


@asynccontextmanager
async def connected(daemon, query="", **options):
    async with open_websocket_url(
        f"ws://127.0.0.1:{daemon.client.port}{PATH}{query}", message_queue_size=64, **options
    ) as connection:
        try:
            yield Line(connection)
        finally:
            await let_go(connection)


async def opened(port, receive_buffer=0):
    """A raw connection behind its handshake."""
    sock = trio.socket.socket()
    if receive_buffer:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    await sock.connect(("127.0.0.1", port))
    stream = trio.SocketStream(sock)
    await stream.send_all(upgrade(PATH))
    assert (await read_until(stream, b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
    return stream


async def handshake(daemon, asked):
    """The answer's head to these bytes."""
    async with await trio.open_tcp_stream("127.0.0.1", daemon.client.port) as stream:
        await stream.send_all(asked)
        return await read_until(stream, b"\r\n\r\n")


def op(name, **fields):
    return frame(TEXT, json.dumps({"op": name, **fields}).encode())


def close_code(data):
    at = data.rindex(b"\x88")
    return int.from_bytes(data[at + 2 : at + 4], "big")


async def vanish(stream):
    """Go away without a word: RST."""
    stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    await stream.aclose()


async def status_of(daemon, run_id):
    told = (await daemon.client.get(f"/api/v1/runs/{run_id}")).json
    return told.get("outcome", {}).get("code", told["status"])


async def finished_run(daemon, text="one two three"):
    """A run that has ended and is only stored."""
    answer = await daemon.client.call("POST", "/api/v1/prompt", {"prompt": text, "backend": "scripted"})
    return answer.json["run_id"]
