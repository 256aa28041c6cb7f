"""How the server itself says no: to a request that never reaches the app, or that the app may not finish."""

from collections.abc import Mapping
from typing import Any, Protocol, cast

import h11
import msgspec

_TYPES = {408: "timeout_error", 500: "server_error", 503: "server_error"}

Headers = list[tuple[bytes, bytes]]
Scope = Mapping[str, Any]


class Refusal(msgspec.Struct, frozen=True):
    """An HTTP status, a stable snake_case code, and one sentence for people."""

    status: int
    code: str
    message: str


class RenderError(Protocol):
    """Write a refusal in the dialect of the surface that was asked.

    `scope` is the request as far as it was understood (ASGI names: `method`, `path`, `headers`), or empty.
    Returns the body and its headers; length and `connection: close` are added by the server.
    """

    def __call__(self, status: int, code: str, message: str, scope: Scope) -> tuple[bytes, Headers]:
        """Return (body, headers)."""
        ...


def render_json(status: int, code: str, message: str, scope: Scope) -> tuple[bytes, Headers]:
    """Render the native error shape, `{"error": {"code", "message", "param", "type"}}`."""
    del scope
    kind = _TYPES.get(status, "invalid_request_error")
    error = {"code": code, "message": message, "param": None, "type": kind}
    return msgspec.json.encode({"error": error}), [(b"content-type", b"application/json")]


def answer_bytes(http: h11.Connection, refusal: Refusal, asked: Scope, render_error: RenderError) -> bytes:
    """Return the whole answer that says no on `http`, which expects a response and is closed after it."""
    body, extra = render_error(refusal.status, refusal.code, refusal.message, asked)
    headers = [*extra, (b"content-length", b"%d" % len(body)), (b"connection", b"close")]
    events: list[Any] = [h11.Response(status_code=refusal.status, headers=headers), h11.EndOfMessage()]
    if asked.get("method") != "HEAD":
        events.insert(1, h11.Data(data=body))
    return b"".join(cast("bytes | None", http.send(event)) or b"" for event in events)
