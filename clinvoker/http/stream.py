"""What handlers use: a streaming response whose resources always end with the request."""

from collections.abc import AsyncIterator, Mapping
from contextlib import ExitStack
from types import TracebackType

from quart.wrappers.response import ResponseBody
from quart_trio.wrappers import TrioResponse

from clinvoker.http.exchange import current

SSE_HEARTBEAT = b": keep-alive\n\n"
NDJSON_HEARTBEAT = b"\n"


def current_request_stack() -> ExitStack:
    """Return the stack that is closed when the current request is over, however it ends.

    Also when the caller leaves before the body's first step, and for HEAD, which never takes it (platform.md row 6).
    Put synchronous, quick callbacks on it: `current_request_stack().callback(follower.close)`.

    Raises:
        RuntimeError: not called from a request that `serve()` handles (quart's test client has none).
    """
    exchange = current()
    if exchange is None:
        raise RuntimeError(
            "there is no request here: requests have a stack only under clinvoker.http.server.serve"
        )
    return exchange.stack


def streaming(
    body: AsyncIterator[bytes],
    content_type: str,
    headers: Mapping[str, str] | None = None,
    *,
    heartbeat: bytes = b"",
    heartbeat_s: float = 15.0,
) -> TrioResponse:
    """Return a response that sends each item of `body` as one write.

    After `heartbeat_s` seconds of silence `heartbeat` is sent, without interrupting `body`. The next item is asked for
    only when the socket has taken the last. If `body` raises, the connection is cut without its last chunk, so that
    the caller sees the truncation: yield the API's own error event first. Under quart's test client there is no
    heartbeat.
    """
    exchange = current()
    if exchange is not None and heartbeat:
        exchange.beat(heartbeat, heartbeat_s)
    response = TrioResponse(_StreamBody(body), headers=dict(headers or {}), content_type=content_type)
    response.headers.setdefault("cache-control", "no-cache")
    response.headers.setdefault("x-accel-buffering", "no")
    response.timeout = None  # RESPONSE_TIMEOUT cuts a stream without a word (row 5)
    return response


class _StreamBody(ResponseBody):
    """quart takes an async generator only; this is any async iterator, closed where it can be."""

    def __init__(self, body: AsyncIterator[bytes]) -> None:
        self._body = body

    async def __aenter__(self) -> AsyncIterator[bytes]:
        return self._body

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        close = getattr(self._body, "aclose", None)
        if close is not None:
            await close()
