"""HTTP/1.1 on one connection: hypercorn's H11Protocol with bounded waits and answered refusals."""

import enum
from collections.abc import Awaitable, Callable
from typing import Any, cast

import h11
import trio
from hypercorn.events import Closed, RawData
from hypercorn.protocol.events import Body, Data, EndBody, Request, Response
from hypercorn.protocol.events import Event as StreamEvent
from hypercorn.protocol.h11 import STREAM_ID, H11Protocol, H11WSConnection
from hypercorn.protocol.http_stream import HTTPStream
from hypercorn.protocol.ws_stream import Handshake
from hypercorn.typing import AppWrapper, ConnectionState

from clinvoker.http.exchange import Exchange
from clinvoker.http.inbox import Inbox
from clinvoker.http.refusal import Refusal, Scope, answer_bytes
from clinvoker.http.shared import Shared
from clinvoker.http.vet import is_websocket, malformed, too_large, trailed, understood, vet, vet_raw
from clinvoker.http.websocket import BoundedWebsocket
from clinvoker.http.wire import Wire

PIPELINE_GRACE_S = 0.5
PIPELINE_PAUSE_S = 0.01
_EVENTS_PER_TURN = 128
_FINAL = 200
_WS_INBOX_MESSAGES = 4

Address = tuple[str, int]


class Phase(enum.Enum):
    """What the peer owes us; each phase has its own deadline, and the last two have none."""

    HEAD = enum.auto()
    BODY = enum.auto()
    IDLE = enum.auto()
    ANSWER = enum.auto()
    SOCKET = enum.auto()


class Http1(H11Protocol):
    """The protocol of one connection, and the task group of its streams.

    Only the connection's reader calls `received`, `resume` and `timed_out`, so there is one parser at a time.
    """

    def __init__(
        self,
        shared: Shared,
        wire: Wire,
        ends: tuple[Address | None, Address | None],
        send: Callable[[Any], Awaitable[None]],
    ) -> None:
        super().__init__(
            app=cast("AppWrapper", shared.app),
            config=shared.config,
            context=cast("Any", shared.context),
            task_group=cast("Any", self),
            connection_state=ConnectionState({}),
            ssl=False,
            client=ends[0],
            server=ends[1],
            send=send,
        )
        self._shared = shared
        self._limits = shared.limits
        self._wire = wire
        self._http = cast("h11.Connection", self.connection)
        self._exchange: Exchange | None = None
        self._asked: Scope = {}
        self._held = 0
        self._body_bytes = 0
        self._phase = Phase.HEAD
        wire.patience(self._limits.header_time_s)

    # From the connection's reader

    async def received(self, data: bytes) -> None:
        """Take bytes from the peer."""
        if self._phase is Phase.ANSWER:
            await self._hold(data)
            return
        if self._phase is Phase.IDLE:
            self._enter(Phase.HEAD, self._limits.header_time_s)
        await self.handle(RawData(data))

    async def resume(self) -> None:
        """Parse what came early: the next request, sent before the response before it had ended."""
        if self._phase is Phase.IDLE:  # else more bytes have come meanwhile, and brought what was early along
            async with self._shared.turnstile:
                await trio.sleep(PIPELINE_PAUSE_S)
            self._enter(Phase.HEAD, self._limits.header_time_s)
            await self._handle_events()

    async def timed_out(self) -> None:
        """Close, with a 408 where a request was begun."""
        begun = self._phase is Phase.BODY or (self._phase is Phase.HEAD and self._http.trailing_data[0])
        if begun:
            if not self._asked:
                self._asked = understood(self._http.trailing_data[0])
            await self.refuse(Refusal(408, "request_timeout", "the request did not arrive in time"))
        else:
            await self.send(Closed())

    async def _hold(self, data: bytes) -> None:
        """Keep bytes that come while a response runs, and go on reading.

        hypercorn stops reading here, and never learns that the caller has gone (row 4). An honest client's next request
        may come before the last send has returned, hence the buffer; who sends more than fits must wait for his answer.
        """
        self._held += len(data)
        self._http.receive_data(data)
        if self._held > self._limits.header_bytes:
            with trio.move_on_after(PIPELINE_GRACE_S) as grace:
                await self.can_read.wait()
            if grace.cancelled_caught:
                self._wire.abort()

    # From the connection: its end, and hypercorn's note that the next request may come

    def rested(self) -> None:
        """Wait for the next request, or take it up if it is here already."""
        self._enter(Phase.IDLE, self._limits.keep_alive_s)
        self._exchange = None
        self._asked = {}
        if self._held:
            self._held = 0
            self._wire.wake()

    def idle(self) -> bool:
        """Tell whether nothing is asked here, so that the connection can be closed without a loss."""
        return self._phase in {Phase.IDLE, Phase.HEAD}

    def go_away(self) -> bool:
        """Prepare for the server's end: 1001 to a websocket; False if nothing is asked here: close at once."""
        if isinstance(self.stream, BoundedWebsocket):
            self._wire.start_soon(self._leave, self.stream)
        return not self.idle()

    async def _leave(self, stream: BoundedWebsocket) -> None:
        """Say 1001 when the app has told the rest, or half of the grace is over."""
        if self._exchange is not None:
            with trio.move_on_after(self._limits.shutdown_grace_s / 2):
                await self._exchange.wait_last_words()
        await stream.go_away()

    async def refuse(self, refusal: Refusal) -> None:
        """Answer in the app's place and close; if the app has begun its answer, cut it."""
        if self._exchange is not None:
            self._exchange.abandon()
        if self._http.our_state not in {h11.IDLE, h11.SEND_RESPONSE}:
            self._wire.abort()
            return
        await self.send(RawData(answer_bytes(self._http, refusal, self._asked, self._shared.render_error)))
        await self.send(Closed())

    # hypercorn's task group, as far as its streams use it

    async def spawn_app(
        self, _app: object, _config: object, scope: dict[str, Any], send: Callable[[Any], Awaitable[None]]
    ) -> Callable[[dict[str, Any]], Awaitable[None]]:
        """Start the app for one request; returns what hypercorn calls to give it a message."""
        socket = scope["type"] == "websocket"
        inbox = Inbox(_WS_INBOX_MESSAGES * self._limits.ws_message_bytes) if socket else Inbox()
        self._exchange = Exchange(self._shared.app, scope, inbox, send, wire=self._wire, refuse=self.refuse)
        self._wire.start_soon(self._exchange.run)
        return inbox.put

    def spawn(self, function: Callable[..., Awaitable[Any]], *args: object) -> None:
        """Start a task of a stream."""
        self._wire.start_soon(function, *args)

    # What H11Protocol does otherwise

    async def stream_send(self, event: StreamEvent) -> None:
        """Announce with `connection: close` that this response is the last, which hypercorn does not."""
        last = self.context.terminated.is_set() or self._http.their_state is h11.SEND_BODY
        if isinstance(event, Response) and event.status_code >= _FINAL and last:
            headers = [*event.headers, (b"connection", b"close")]
            event = Response(stream_id=event.stream_id, headers=headers, status_code=event.status_code)
        await super().stream_send(event)

    async def _handle_events(self) -> None:
        chunks: list[bytes] = []
        turn = 0
        while not self._wire.closing:
            if self.connection.they_are_waiting_for_100_continue:
                await self._send_h11_event(h11.InformationalResponse(status_code=100, headers=[]))
            head = self._http.trailing_data[0] if self._http.their_state is h11.IDLE else b""
            try:
                event = self.connection.next_event()
            except h11.RemoteProtocolError as error:
                if not self._asked:
                    self._asked = understood(head)
                await self.refuse(malformed(error.error_status_hint))
                return
            if isinstance(event, h11.Data):
                # A read may hold ten thousand chunks of one byte: they go to the app as one message.
                chunks.append(bytes(event.data))
                self._body_bytes += len(event.data)
                if self._body_bytes > self._limits.max_body_bytes:
                    await self.refuse(too_large(self._limits))
                    return
            elif refusal := self._vet_shape(event, head):
                await self.refuse(refusal)
                return
            elif not await self._act(event, chunks):
                return
            turn += 1
            if turn % _EVENTS_PER_TURN == 0:
                await trio.lowlevel.checkpoint()

    def _vet_shape(self, event: object, buffered: bytes) -> Refusal | None:
        """Return why what h11 took must not pass; `buffered` is all it had, a request's head first."""
        if isinstance(event, h11.Request):
            path, _, query = event.target.partition(b"?")
            self._asked = {
                "method": event.method.decode("ascii"),
                "path": path.decode("ascii"),
                "query_string": query,
                "headers": list(event.headers),
            }
            return vet_raw(buffered[: len(buffered) - len(self._http.trailing_data[0])])
        if isinstance(event, h11.EndOfMessage) and list(event.headers):
            return trailed()
        return None

    async def _act(self, event: object, chunks: list[bytes]) -> bool:
        """Handle any event but a piece of body; returns whether to look for more."""
        if self.stream is not None and chunks:
            await self.stream.handle(Body(stream_id=STREAM_ID, data=b"".join(chunks)))
            chunks.clear()
        if isinstance(event, h11.Request):
            await self._begin(event)
        elif isinstance(event, Data) and self.stream is not None:
            await self.stream.handle(event)
        elif isinstance(event, h11.EndOfMessage) and self.stream is not None:
            await self.can_read.clear()
            self._enter(Phase.ANSWER, float("inf"))
            self._held = len(self._http.trailing_data[0])  # the next request, if it came in the same read
            await self.stream.handle(EndBody(stream_id=STREAM_ID))
        else:
            return False
        return self._phase is not Phase.ANSWER

    async def _begin(self, request: h11.Request) -> None:
        self._exchange = None
        self._body_bytes = 0
        target = vet(request, self._limits)
        if isinstance(target, Refusal):
            await self.refuse(target)
            return
        headers = list(request.headers)
        event = Request(
            stream_id=STREAM_ID,
            headers=headers,
            http_version=request.http_version.decode("ascii"),
            method=request.method.decode("ascii").upper(),
            raw_path=target,
            state=self.connection_state,
        )
        self.keep_alive_requests += 1
        if is_websocket(request.method, headers):
            await self._begin_websocket(event)
            return
        self._enter(Phase.BODY, self._limits.body_time_s)
        self.stream = HTTPStream(*self._stream_arguments())
        await self.stream.handle(event)

    async def _begin_websocket(self, event: Request) -> None:
        # Deflate is never negotiated: half a megabyte inflates to 512 (row 11).
        event.headers[:] = [entry for entry in event.headers if entry[0] != b"sec-websocket-extensions"]
        if not Handshake(event.headers, event.http_version).is_valid():
            await self.refuse(Refusal(400, "bad_request", "the websocket handshake is not valid"))
            return
        self._enter(Phase.SOCKET, float("inf"))
        self.stream = BoundedWebsocket(
            *self._stream_arguments(), limits=self._limits, wire=self._wire, refuse=self.refuse
        )
        self.connection = H11WSConnection(self._http)
        await self.stream.handle(event)

    def _stream_arguments(self) -> tuple[Any, ...]:
        return (
            self.app,
            self.config,
            self.context,
            self,
            False,
            self.client,
            self.server,
            self.stream_send,
            STREAM_ID,
        )

    def _enter(self, phase: Phase, patience_s: float) -> None:
        self._phase = phase
        self._wire.patience(patience_s)
