"""A websocket with bounds, close codes and a deadline for pongs (platform.md row 11)."""

import contextlib
from collections.abc import Awaitable, Callable
from typing import Any

import trio
from hypercorn.protocol.events import Body, Data, Event, StreamClosed
from hypercorn.protocol.ws_stream import ASGIWebsocketState, WSStream
from hypercorn.typing import WebsocketAcceptEvent
from wsproto.connection import ConnectionState
from wsproto.events import BytesMessage, CloseConnection, Ping, TextMessage
from wsproto.frame_protocol import CloseReason
from wsproto.utilities import LocalProtocolError

from clinvoker.http.limits import Limits
from clinvoker.http.refusal import Refusal
from clinvoker.http.wire import Wire

_FRAMES_PER_TURN = 64
_EARLY = Refusal(400, "bad_request", "websocket frames may come only after the handshake's answer")


class BoundedWebsocket(WSStream):
    """hypercorn's websocket stream, whose peer can neither fill memory nor go away unnoticed."""

    app_put: Callable[[dict[str, Any]], Awaitable[None]] | None

    def __init__(
        self,
        *args: Any,  # noqa: ANN401 - handed to hypercorn as they are
        limits: Limits,
        wire: Wire,
        refuse: Callable[[Refusal], Awaitable[None]],
    ) -> None:
        super().__init__(*args)
        self._limits = limits
        self._wire = wire
        self._refuse = refuse
        self._code: int = CloseReason.ABNORMAL_CLOSURE
        self._message = bytearray()
        self._heard = 0

    async def handle(self, event: Event) -> None:
        """Take an event of the connection; frames that come too early are refused."""
        if self.closed:
            return
        if isinstance(event, StreamClosed):
            self.closed = True
            await self._tell({"type": "websocket.disconnect", "code": self._code})
        elif not isinstance(event, (Body, Data)):
            await super().handle(event)
        elif not self.handshake.accepted:
            # hypercorn answers 400 and lets the app's later answer end the whole server (row 1).
            self.closed = True
            await self._refuse(_EARLY)
        else:
            self._heard += 1
            with contextlib.suppress(LocalProtocolError):  # bytes behind the peer's own close frame
                self.connection.receive_data(event.data)
            await self._handle_events()

    async def end(self, code: int, reason: str = "") -> None:
        """Send a close frame with this code and close; the app sees a disconnect with it."""
        self._code = code
        await self._send_wsproto_event(CloseConnection(code=code, reason=reason[:100]))
        await self.send(StreamClosed(stream_id=self.stream_id))

    async def go_away(self) -> None:
        """Say 1001 because the server ends."""
        if self.state is ASGIWebsocketState.CONNECTED and not self.closed:
            await self.end(CloseReason.GOING_AWAY, "the server is shutting down")

    async def _handle_events(self) -> None:
        for turn, event in enumerate(self.connection.events(), 1):
            if isinstance(event, TextMessage | BytesMessage):
                await self._take(event)
            elif isinstance(event, Ping):
                await self._send_wsproto_event(event.response())
            elif isinstance(event, CloseConnection):
                await self._take_close(event)
            if self.closed:
                return
            if turn % _FRAMES_PER_TURN == 0:
                await trio.lowlevel.checkpoint()

    async def _take(self, event: TextMessage | BytesMessage) -> None:
        """Collect a message, counted in bytes over its fragments: hypercorn closed with 1009, and went on collecting."""
        text = isinstance(event, TextMessage)
        self._message += event.data.encode() if isinstance(event, TextMessage) else event.data
        if len(self._message) > self._limits.ws_message_bytes:
            self._message.clear()
            await self.end(CloseReason.MESSAGE_TOO_BIG, "the message is too large")
        elif event.message_finished:
            whole = bytes(self._message)
            self._message.clear()
            await self._tell(
                {
                    "type": "websocket.receive",
                    "text": whole.decode() if text else None,
                    "bytes": None if text else whole,
                }
            )

    async def _take_close(self, event: CloseConnection) -> None:
        if self.connection.state is ConnectionState.OPEN:
            # Not a frame of the peer's: wsproto's name for a violation, which hypercorn ended without a word.
            await self.end(event.code, event.reason or "")
            return
        self._code = event.code
        if self.connection.state is ConnectionState.REMOTE_CLOSING:
            await self._send_wsproto_event(event.response())
        await self.send(StreamClosed(stream_id=self.stream_id))

    async def _tell(self, message: dict[str, Any]) -> None:
        if self.app_put is not None:
            await self.app_put(message)

    async def _accept(self, message: WebsocketAcceptEvent) -> None:
        await super()._accept(message)
        self._wire.start_soon(self._watch)

    async def _watch(self) -> None:
        """Ping, and drop a peer from which nothing came between two pings."""
        heard_before_ping: int | None = None
        while not self.closed:
            await trio.sleep(self._limits.ws_ping_s)
            if self._heard == heard_before_ping and self._wire.listening:
                self._wire.abort()
            heard_before_ping = self._heard
            await self._send_wsproto_event(Ping())
