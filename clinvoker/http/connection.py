"""One accepted socket: one cancel scope, one reader, one guarded writer, one deadline at a time.

Takes the place of hypercorn's `trio.tcp_server.TCPServer`. Everything that belongs to the connection runs inside `_scope`;
leaving it, for whatever reason, ends its tasks and closes its socket. Nothing but cancellation leaves `run`.
"""

import logging
import math
import os
import socket
import struct
from collections.abc import Awaitable, Callable
from typing import Any

import trio
from hypercorn.events import Closed, Event, RawData, Updated

from clinvoker.http.http1 import Address, Http1
from clinvoker.http.shared import Shared

READ_BYTES = 64 * 1024
LINGER_S = 2.0
FAREWELL_S = 0.5
FRESH_S = 1.0
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER with no time: close() sends RST and drops what was not yet sent
logger = logging.getLogger(__name__)


class Connection:
    """A client's connection; implements `wire.Wire` for the protocol above it."""

    def __init__(self, stream: trio.SocketStream, shared: Shared) -> None:
        self.closing = False
        self._socket = stream.socket
        self._limits = shared.limits
        self._scope = trio.CancelScope()
        self._writing = trio.Lock()
        self._deadline = math.inf
        self._came = trio.current_time()
        self._linger_s = LINGER_S
        self._reading: trio.CancelScope | None = None
        self._woken = False
        self._nursery: trio.Nursery
        self._protocol = Http1(shared, self, _ends(self._socket), self._protocol_send)

    async def run(self) -> None:
        """Serve this connection until either side is done with it.

        An exception in here ends this connection and no other (platform.md row 1: it ended the whole server).
        """
        try:
            with self._scope:
                async with trio.open_nursery() as self._nursery:
                    await self._read()
                    self._scope.cancel()
        except Exception:
            logger.exception("a connection failed and was closed")
        finally:
            self._socket.close()

    # What the server asks

    def idle(self) -> bool:
        """Tell whether it can be closed at once without a loss to its client: not before it had time to ask."""
        fresh = trio.current_time() - self._came < FRESH_S
        return not self.closing and not fresh and self._protocol.idle()

    def close(self) -> None:
        """Close at once; cancels whatever runs here."""
        self._scope.cancel()

    def go_away(self) -> None:
        """Close because the server ends: at once if idle, else after this answer.

        hypercorn waited its whole grace for one idle connection (row 12).
        """
        self._linger_s = FAREWELL_S
        if not self._protocol.go_away():
            self.close()

    # What the protocol asks (wire.Wire)

    @property
    def listening(self) -> bool:
        """Whether the reader waits for the peer."""
        return self._reading is not None

    def patience(self, seconds: float) -> None:
        """Set how long from now the reader waits for the peer."""
        self._deadline = trio.current_time() + seconds
        if self._reading is not None:
            self._reading.deadline = self._deadline

    def wake(self) -> None:
        """Have the reader call `Http1.resume`."""
        self._woken = True
        if self._reading is not None:
            self._reading.cancel()

    def abort(self) -> None:
        """Drop the connection: RST, and every task cancelled."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self._scope.cancel()

    def start_soon(self, function: Callable[..., Awaitable[Any]], *args: object) -> None:
        """Run a task of this connection."""
        self._nursery.start_soon(function, *args)

    # Reading

    async def _read(self) -> None:
        """Read until the peer has gone. Nothing the app does can stop this, so leaving is always noticed (row 4)."""
        while True:
            if self._woken:
                self._woken = False
                await self._protocol.resume()
                continue
            data = await self._receive()
            if data == b"":
                return
            if data is None:
                if not self._woken and not self.closing:
                    await self._protocol.timed_out()
            elif not self.closing:
                await self._protocol.received(data)

    async def _receive(self) -> bytes | None:
        """Return what the peer sent, b"" when it has gone, None when woken or out of patience."""
        try:
            with trio.CancelScope(deadline=self._deadline) as self._reading:
                return await self._socket.recv(READ_BYTES)
        except OSError:
            return b""
        finally:
            self._reading = None

    # Writing

    async def _protocol_send(self, event: Event) -> None:
        if isinstance(event, RawData):
            await self._write(event.data)
        elif isinstance(event, Closed):
            self._end()
        elif isinstance(event, Updated) and event.idle:
            self._protocol.rested()

    async def _write(self, data: bytes) -> None:
        """Write all of `data`, or drop the connection.

        hypercorn's shielded send_all waits for a reader that stopped until the end of time (row 3). Here each step may
        take `write_stall_s`, and a write that was cut, also by cancellation, ends the connection: nobody could tell
        where the next byte belongs.
        """
        written = False
        try:
            async with self._writing:
                written = await self._push(memoryview(data))
        except OSError:
            pass  # the peer has gone
        finally:
            if not written:
                self.abort()
        await trio.lowlevel.checkpoint_if_cancelled()

    async def _push(self, rest: memoryview) -> bool:
        while rest:
            try:
                # Nearly always there is room: no scope is opened for the wait that does not come.
                rest = rest[os.write(self._socket.fileno(), rest) :]
            except BlockingIOError:
                with trio.move_on_after(self._limits.write_stall_s) as patience:
                    await trio.lowlevel.wait_writable(self._socket)
                if patience.cancelled_caught:
                    return False
        return True

    def _end(self) -> None:
        """Close our half at once, and read on for a moment: closing over unread bytes would reset the answer away.

        No await in here: hypercorn's own close was cancelled by quart-trio in the middle, and never came (row 2).
        """
        if self.closing:
            return
        self.closing = True
        self.patience(math.inf)
        self._scope.deadline = min(self._scope.deadline, trio.current_time() + self._linger_s)
        try:
            self._socket.shutdown(socket.SHUT_WR)
        except OSError:
            self._scope.cancel()


def _ends(connected: trio.socket.SocketType) -> tuple[Address | None, Address | None]:
    """Return (client, server); an address is None if the peer has gone already."""
    try:
        return connected.getpeername()[:2], connected.getsockname()[:2]
    except OSError:
        return None, None
