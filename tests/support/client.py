"""An HTTP client of a test: one connection a request, every answer kept for the oracle."""

from __future__ import annotations

import json
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import h11
import trio

TERMINAL = ("complete", "error")


class Answer:
    """A whole answer."""

    def __init__(self, status: int, headers: dict[str, str], body: bytes):
        self.status = status
        self.headers = headers
        self.body = body

    def __repr__(self):
        return f"<Answer {self.status} {self.body[:500]!r}>"

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> str:
        """The code of the error, wherever it stands; empty without one."""
        return self.json.get("error", {}).get("code", "")


class Incoming:
    """An answer that is still being read."""

    def __init__(self, stream: trio.SocketStream):
        self._stream = stream
        self._connection = h11.Connection(h11.CLIENT)
        self.status = 0
        self.headers: dict[str, str] = {}
        self.cut = False
        """Whether the connection broke off before the answer's end."""

    async def ask(self, method: str, path: str, body: bytes, headers: list[tuple[str, str]]) -> None:
        given = {name.lower() for name, _ in headers}
        own = [("host", "localhost"), ("content-length", str(len(body)))]
        fields = [*(field for field in own if field[0] not in given), *headers]
        send = self._connection.send
        head = send(h11.Request(method=method, target=path, headers=fields))
        data = send(h11.Data(data=body)) if body else b""
        await self._stream.send_all(head + data + send(h11.EndOfMessage()))
        event = await self._event()
        assert isinstance(event, h11.Response), event
        self.status = event.status_code
        self.headers = {name.decode(): value.decode() for name, value in event.headers}

    async def chunk(self) -> bytes:
        """Return the next piece of the body, nothing at its end."""
        try:
            event = await self._event()
        except (h11.RemoteProtocolError, trio.BrokenResourceError):
            self.cut = True
            return b""
        return bytes(event.data) if isinstance(event, h11.Data) else b""

    async def whole(self) -> Answer:
        """Read the body to its end."""
        body = b""
        while data := await self.chunk():
            body += data
        return Answer(self.status, self.headers, body)

    def reset(self) -> None:
        """Go away without a word: RST."""
        self._stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    async def _event(self) -> Any:
        while True:
            event = self._connection.next_event()
            if event is not h11.NEED_DATA:
                return event
            self._connection.receive_data(await self._stream.receive_some(1 << 18))


class Events:
    """An event stream: what came of it so far."""

    def __init__(self, incoming: Incoming):
        self.status = incoming.status
        self.headers = incoming.headers
        self.events: list[dict[str, Any]] = []
        self.left = False
        """Whether the test went away before the end."""
        self._incoming = incoming
        self._partial = b""
        self.refusal: Answer | None = None
        """The answer, if it is no stream at all."""

    def __repr__(self):
        return f"<Events {[event['type'] for event in self.events]} {self.last}>"

    async def more(self) -> bool:
        """Read once more from the connection; False at the end."""
        data = await self._incoming.chunk()
        *frames, self._partial = (self._partial + data).split(b"\n\n")
        for frame in frames:
            fields = dict(line.partition(b": ")[::2] for line in frame.split(b"\n"))
            if b"data" in fields:
                event = json.loads(fields[b"data"])
                assert int(fields[b"id"]) == event["seq"]
                self.events.append(event)
        return bool(data)

    async def to_end(self) -> Events:
        while await self.more():
            pass
        return self

    async def until(self, text: str) -> Events:
        """Read until the answer so far holds `text`."""
        while text not in self.text:
            assert await self.more(), self
        return self

    def reset(self) -> None:
        self._incoming.reset()
        self.left = True

    @property
    def cut(self) -> bool:
        return self._incoming.cut

    @property
    def last(self) -> dict[str, Any]:
        return self.events[-1] if self.events else {}

    @property
    def run_id(self) -> str:
        return self.headers["x-clinvoker-run"]

    @property
    def text(self) -> str:
        return "".join(event["content"]["text"] for event in self.events if event["type"] == "message")

    @property
    def code(self) -> str:
        """The code of the last event's error."""
        return self.last["content"]["code"] if self.last.get("type") == "error" else ""


class Client:
    """Asks one daemon; `answers` and `streams` are what it was told, for whoever checks."""

    def __init__(self, port: int):
        self.port = port
        self.answers: list[Answer] = []
        self.streams: list[Events] = []
        self.unseen = 0
        """Runs of callers who left before there was an answer; the test counts them."""

    @asynccontextmanager
    async def open(
        self,
        method: str,
        path: str,
        body: Any = None,
        headers: dict[str, str] | None = None,
        receive_buffer: int = 0,
    ) -> AsyncIterator[Incoming]:
        sock = trio.socket.socket()
        if receive_buffer:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        with sock:
            await sock.connect(("127.0.0.1", self.port))
            stream = trio.SocketStream(sock)
            incoming = Incoming(stream)
            data = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
            fields = {"content-type": "application/json", "connection": "close", **(headers or {})}
            given = [(name, value) for name, value in fields.items() if value is not None]
            await incoming.ask(method, path, data, given)
            yield incoming

    async def call(self, method: str, path: str, body: Any = None, **options: Any) -> Answer:
        async with self.open(method, path, body, **options) as incoming:
            return await incoming.whole()

    async def get(self, path: str) -> Answer:
        return await self.call("GET", path)

    async def ask(self, prompt: str, backend: str = "scripted", **fields: Any) -> Answer:
        """Prompt, and wait for the answer. Nothing is kept of the session, so that nothing is left to count."""
        body = {"prompt": prompt, "backend": backend, "ephemeral": True, **fields}
        answer = await self.call("POST", "/api/v1/prompt", body)
        self.answers.append(answer)
        return answer

    @asynccontextmanager
    async def stream(
        self, prompt: str, backend: str = "scripted", *, receive_buffer: int = 0, **fields: Any
    ) -> AsyncIterator[Events]:
        """Prompt, and read the answer as it comes. Leaving before the end is the caller's going away."""
        body = {"prompt": prompt, "backend": backend, "ephemeral": True, "stream": True, **fields}
        async with self.open("POST", "/api/v1/prompt", body, receive_buffer=receive_buffer) as incoming:
            events = Events(incoming)
            if incoming.status == 200:
                self.streams.append(events)
            else:
                events.refusal = await incoming.whole()
                self.answers.append(events.refusal)
            try:
                yield events
            finally:
                if events.last.get("type") not in TERMINAL and not events.cut:
                    events.left = True

    async def read(self, prompt: str, backend: str = "scripted", **fields: Any) -> Events:
        """Prompt, and read the stream to its end."""
        async with self.stream(prompt, backend, **fields) as events:
            return await events.to_end()
