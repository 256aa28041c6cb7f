"""One HTTP/1.1 connection: h11 on a trio stream, which also notices that the client left during an answer."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Literal

import h11
import trio

from tests.fake_model.stream import Ending, Pause, Step

_SEND_AT = 32 * 1024
"""Steps without a pause between them go out together: the server's own cost must not show in measurements."""

Outcome = Literal["finished", "cut"]
Tell = Callable[[Outcome], None]
"""Told just before the last bytes go out: a client that has its answer finds it finished in the log."""


def _nobody(_: Outcome) -> None:
    """Take no notice."""


class ClientGoneError(Exception):
    """The client closed the connection while it was being answered."""


@dataclass(frozen=True, slots=True)
class Call:
    """One request as it came."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes


class Connection:
    """Reads calls and writes answers, one after the other."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=1024 * 1024)

    async def next_call(self) -> Call | None:
        """Read the next request, or nothing when the client is done with this connection."""
        if self._http.our_state is h11.DONE:
            self._http.start_next_cycle()
        head: h11.Request | None = None
        body: list[bytes] = []
        while True:
            event = self._http.next_event()
            if event is h11.NEED_DATA:
                self._http.receive_data(await self._stream.receive_some(256 * 1024))
            elif isinstance(event, h11.Request):
                head = event
            elif isinstance(event, h11.Data):
                body.append(bytes(event.data))
            elif isinstance(event, h11.EndOfMessage) and head is not None:
                headers = {name.decode(): value.decode("latin-1") for name, value in head.headers}
                return Call(head.method.decode(), head.target.decode("latin-1"), headers, b"".join(body))
            else:
                return None

    async def answer(self, status: int, headers: dict[str, str], body: bytes, tell: Tell = _nobody) -> None:
        """Send a whole answer."""
        async with self._watching_for_close():
            head = [("content-length", str(len(body))), *headers.items()]
            tell("finished")
            await self._stream.send_all(
                self._encode(h11.Response(status_code=status, headers=head))
                + self._encode(h11.Data(data=body))
                + self._encode(h11.EndOfMessage())
            )

    async def wait(self, seconds: float) -> None:
        """Let time pass, unless the client leaves."""
        async with self._watching_for_close():
            await trio.sleep(seconds)

    async def answer_stream(self, steps: Iterator[Step], *, wait: float, tell: Tell) -> bool:
        """Send an event stream step by step; the head goes out at once, the first step after `wait`.

        False when the connection is to be dropped.
        """
        async with self._watching_for_close():
            head = [("content-type", "text/event-stream"), ("transfer-encoding", "chunked")]
            await self._stream.send_all(self._encode(h11.Response(status_code=200, headers=head)))
            await trio.sleep(wait)
            pending = bytearray()
            for step in steps:
                if isinstance(step, bytes):
                    pending += step
                    if len(pending) < _SEND_AT:
                        continue
                if pending:
                    await self._stream.send_all(self._encode(h11.Data(data=bytes(pending))))
                    pending.clear()
                if isinstance(step, Pause):
                    await trio.sleep(step.seconds)
                elif step is Ending.CUT:
                    tell("cut")
                    return False
                elif step is Ending.HANG:
                    await trio.sleep_forever()
                elif step is Ending.STOP:
                    break
            tail = self._encode(h11.Data(data=bytes(pending))) if pending else b""
            tell("finished")
            await self._stream.send_all(tail + self._encode(h11.EndOfMessage()))
        return True

    def _encode(self, event: h11.Event) -> bytes:
        return self._http.send(event) or b""

    @asynccontextmanager
    async def _watching_for_close(self) -> AsyncIterator[None]:
        """Run a block that ends with ClientGoneError as soon as the client closes its side."""
        done = False

        async def watch(scope: trio.CancelScope) -> None:
            with suppress(trio.BrokenResourceError):
                while data := await self._stream.receive_some():
                    self._http.receive_data(data)  # the next request, ahead of its time
            scope.cancel()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch, nursery.cancel_scope)
            with suppress(trio.BrokenResourceError):
                yield
                done = True  # a client that leaves once it has everything is not gone
            nursery.cancel_scope.cancel()
        if not done:
            raise ClientGoneError
