"""One request, from its head to its end: the app's task, its inbox, its resources, its heartbeat."""

import logging
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import ExitStack
from contextvars import ContextVar
from typing import Any, cast

import trio

from clinvoker.http.inbox import Inbox, Message
from clinvoker.http.refusal import Refusal
from clinvoker.http.wire import Wire

Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]

_FAILED = Refusal(500, "internal_error", "the request failed inside the server")
logger = logging.getLogger(__name__)
_current: ContextVar["Exchange"] = ContextVar("clinvoker_http_exchange")


def current() -> "Exchange | None":
    """Return the exchange in whose context this code runs, or None (the test client has none)."""
    return _current.get(None)


class CutShort(Exception):  # noqa: N818 - no error of the app's: it says so on purpose
    """The response ends here, without its last chunk; the caller has been told why."""


class Exchange:
    """The life of one request.

    Whatever is put on `stack` is closed when the request is over, however it ends and also when the response's
    generator was never started (platform.md row 6). Its callbacks must be synchronous and quick.
    """

    def __init__(
        self,
        app: App,
        scope: MutableMapping[str, Any],
        inbox: Inbox,
        forward: Callable[[Message | None], Awaitable[None]],
        *,
        wire: Wire,
        refuse: Callable[[Refusal], Awaitable[None]],
    ) -> None:
        self.stack = ExitStack()
        self.inbox = inbox
        self._app = app
        self._scope = scope
        self._forward = forward
        self._wire = wire
        self._refuse = refuse
        self._life = trio.CancelScope()
        self._abandoned = False
        self._started = False
        self._over = False
        self._length_left: int | None = None
        self._pulse = b""
        self._pulse_s = 0.0
        self._beating = trio.CancelScope()
        self._spoke = 0.0
        self._last_words: Callable[[], Awaitable[None]] | None = None

    async def run(self) -> None:
        """Run the app for this request and see to it that the caller gets an end, or sees that there is none."""
        _current.set(self)
        with self._life:
            try:
                with self.stack:
                    await self._app(self._scope, self.inbox.get, self.send)
            except Exception as error:
                if not _on_purpose(error):
                    logger.exception("the app failed: %s %r", self._scope["type"], self._scope["path"])
            finally:
                self._beating.cancel()
        if self._abandoned:
            return
        http = self._scope["type"] == "http"
        if http and not self._started and not self._over:
            await self._refuse(_FAILED)
        else:
            # A response that broke off is cut without its last chunk (row 7); hypercorn closes
            # a websocket with 1011. After a complete response this does nothing.
            await self._forward(None)

    def abandon(self) -> None:
        """End the app's part: the server itself answers, or nobody listens any more."""
        self._abandoned = self._over = True
        self._life.cancel()

    def beat(self, pulse: bytes, every_s: float) -> None:
        """Write `pulse` whenever the response was silent for `every_s`, once its headers are out.

        The connection beats, not the body: the source is never interrupted, and a caller who left behind a pipelined
        request is found out because the write fails (row 4).
        """
        self._pulse, self._pulse_s = pulse, every_s

    def before_going_away(self, last_words: Callable[[], Awaitable[None]]) -> None:
        """Have the server, when it ends, wait for this before it closes the websocket with 1001."""
        self._last_words = last_words

    async def wait_last_words(self) -> None:
        """Wait until the app has said all that it must before the end."""
        if self._last_words is not None:
            await self._last_words()

    async def send(self, message: Message) -> None:
        """Pass an ASGI message on (ASGI's `send`). Once the response is over, messages go nowhere."""
        if self._over:
            await trio.lowlevel.checkpoint()
        elif message["type"] == "http.response.start":
            await self._send_start(message)
        elif message["type"] == "http.response.body":
            await self._send_body(message)
        else:
            await self._forward(message)

    async def _send_start(self, message: Message) -> None:
        self._started = True
        headers: list[tuple[bytes, bytes]] = message.get("headers", [])
        length = next((value for name, value in headers if name.lower() == b"content-length"), None)
        self._length_left = int(length) if length is not None else None
        await self._forward(message)
        if length is None and self._scope["method"] == "HEAD":
            # Without a length this is a stream, and its headers are all that HEAD wants: do not run it (row 6).
            self._over = True
            await self._forward({"type": "http.response.body", "body": b"", "more_body": False})
            self._life.cancel()
        elif self._pulse:
            self._spoke = trio.current_time()
            self._wire.start_soon(self._beat)

    async def _send_body(self, message: Message) -> None:
        last = not message.get("more_body", False)
        if self._length_left is not None:
            # Complete when its declared bytes are out: a caller who then hangs up has left a finished exchange.
            self._length_left -= len(message.get("body", b""))
            last = last or self._length_left == 0
        self._over = last
        await self._forward({**message, "more_body": not last})
        self._spoke = trio.current_time()

    async def _beat(self) -> None:
        pulse: Message = {"type": "http.response.body", "body": self._pulse, "more_body": True}
        with self._beating:
            while True:
                await trio.sleep_until(self._spoke + self._pulse_s)
                if not self._over and trio.current_time() >= self._spoke + self._pulse_s:
                    await self._forward(pulse)
                    self._spoke = trio.current_time()


def _on_purpose(error: Exception) -> bool:
    """Whether that is a `CutShort` and nothing else, as the frameworks between here and there wrap it."""
    if isinstance(error, ExceptionGroup):
        group = cast("ExceptionGroup[Exception]", error)
        return all(_on_purpose(each) for each in group.exceptions)
    return isinstance(error, CutShort)
