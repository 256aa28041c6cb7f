"""One ASGI callable around the app, for HTTP and websockets alike: who may call, decided before any route is looked up.

`Host` must be loopback or listed, against DNS rebinding; a foreign `Origin` is refused on every method; with keys
configured, everything but `/health` needs one (contract, section 7).
"""

import hashlib
import re
import secrets
from collections.abc import Callable, Iterable, Mapping, MutableMapping
from ipaddress import IPv4Address, IPv6Address
from typing import Any
from urllib.parse import parse_qs

from actors.errors import Code, Refusal
from clinvoker.api.dialects import ANTHROPIC
from clinvoker.api.errors import render, status_of
from clinvoker.config import Secret, Settings
from clinvoker.http.exchange import App, Receive, Send
from clinvoker.http.inbox import Message
from clinvoker.metrics import REFUSED

OPEN_PATHS = frozenset({"/health"})
"""Answered without a key, compared exactly."""

_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[^:\[\]]+)(?::[0-9]*)?")

REQUEST_ID = "clinvoker.request_id"
"""Where the scope of a request has its id, which its answer carries whoever gives it."""


CALLER = "clinvoker.caller"
"""Where the scope of a request has who sends it: empty without keys, else what stands for the key."""


Count = Callable[[str, str, int], None]
"""Counts a request: its route, method and status."""


def new_request_id() -> str:
    """Return an id for a request."""
    return f"req_{secrets.token_hex(12)}"


class Guard:
    """Lets a request through, or answers it."""

    def __init__(self, app: App, settings: Settings, count: Count) -> None:
        self._app = app
        self._count = count
        self.reconfigure(settings)

    def reconfigure(self, settings: Settings) -> None:
        """Take settings for the requests to come."""
        self._keys = settings.api_keys
        self._origins = frozenset(settings.server.cors_allowed_origins)
        self._hosts = frozenset(_host_name(host) for host in settings.server.allowed_hosts)

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Serve an ASGI connection."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        headers = _headers(scope["headers"])
        scope[REQUEST_ID] = new_request_id()
        scope[CALLER] = _caller(_presented(scope, headers)) if self._keys else ""
        send = _with_headers(
            send, [(name, scope[REQUEST_ID].encode()) for name in _id_headers(scope["path"])]
        )
        origin = headers.get("origin")
        if origin in self._origins:
            send = _with_headers(send, _cors(origin, headers.get("access-control-request-headers")))
        try:
            self._check(scope, headers)
        except Refusal as refusal:
            self._count(REFUSED, scope.get("method", "GET"), status_of(refusal.code))
            await _refuse(scope, refusal, send)
            return
        if origin is not None and scope["type"] == "http" and scope["method"] == "OPTIONS":
            await _answer(send, 204, b"", [])
        else:
            await self._app(scope, receive, send)

    def _check(self, scope: Mapping[str, Any], headers: Mapping[str, str]) -> None:
        host = _host_name(headers.get("host", ""))
        if not host or not (_is_loopback(host) or host in self._hosts):
            raise Refusal(Code.FORBIDDEN, "this Host is not one that the daemon answers to", param="host")
        origin = headers.get("origin")
        if origin is not None and origin not in self._origins:
            raise Refusal(Code.FORBIDDEN, "this Origin may not call the daemon", param="origin")
        if origin is None and headers.get("sec-fetch-site") == "cross-site":
            # A page's <img>, <script> or link: a browser names no Origin there, but says this.
            raise Refusal(Code.FORBIDDEN, "another site may not call the daemon", param="sec-fetch-site")
        if scope["type"] == "http" and scope["method"] == "OPTIONS" and origin is not None:
            return  # a browser's preflight carries no key
        if self._keys and scope["path"] not in OPEN_PATHS and not self._known(_presented(scope, headers)):
            raise Refusal(Code.UNAUTHORIZED, "a valid API key is needed")

    def _known(self, presented: str) -> bool:
        # Every key is compared, each in constant time: how long it takes tells nothing.
        return sum(key == Secret(presented) for key in self._keys) > 0


def _id_headers(path: str) -> tuple[bytes, ...]:
    """The headers that carry a request's id."""
    return (b"x-request-id", b"request-id") if path.startswith(f"{ANTHROPIC}/") else (b"x-request-id",)


def _caller(key: str) -> str:
    """What stands for a key where it must not be seen."""
    return hashlib.sha256(key.encode()).hexdigest()[:32]


def _presented(scope: Mapping[str, Any], headers: Mapping[str, str]) -> str:
    """The key of a request: `Authorization: Bearer`, `x-api-key`, or `?api_key=`, in that order."""
    scheme, _, credentials = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and credentials:
        return credentials.strip()
    if "x-api-key" in headers:
        return headers["x-api-key"]
    query = parse_qs(scope["query_string"].decode("latin-1"))
    return query.get("api_key", [""])[0]


def _headers(raw: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    return {name.decode("latin-1").lower(): value.decode(errors="replace") for name, value in raw}


def _host_name(host: str) -> str:
    """The name in a Host header: no port, lower case, without the root's dot. Empty if there is none."""
    found = _HOST.fullmatch(host.lower())
    return found[1].rstrip(".") if found else ""


def _is_loopback(name: str) -> bool:
    try:
        return (IPv6Address(name[1:-1]) if name.startswith("[") else IPv4Address(name)).is_loopback
    except ValueError:
        return name == "localhost"


def _cors(origin: str, asked: str | None) -> list[tuple[bytes, bytes]]:
    """What a listed origin gets. Whatever headers it asks for it may send: SDKs add a dozen of their own."""
    usual = "authorization, content-type, x-api-key, last-event-id"
    return [
        (b"access-control-allow-origin", origin.encode()),
        (b"access-control-allow-methods", b"GET, POST, PATCH, DELETE"),
        (b"access-control-allow-headers", (asked or usual).encode("ascii", "ignore")),
        (b"access-control-expose-headers", b"*"),
        (b"vary", b"origin"),
    ]


def _with_headers(send: Send, extra: list[tuple[bytes, bytes]]) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", []), *extra]}
        await send(message)

    return sending


async def _refuse(scope: Mapping[str, Any], refusal: Refusal, send: Send) -> None:
    if scope["type"] == "websocket":
        # Before the handshake is accepted, this is an HTTP 403 (ASGI websocket spec, "Close").
        await send({"type": "websocket.close", "code": 1008})
        return
    status, body, headers = render(refusal, scope["path"], scope[REQUEST_ID])
    await _answer(send, status, body, [(name.encode(), value.encode()) for name, value in headers.items()])


async def _answer(send: Send, status: int, body: bytes, headers: list[tuple[bytes, bytes]]) -> None:
    length = (b"content-length", b"%d" % len(body))
    await send({"type": "http.response.start", "status": status, "headers": [*headers, length]})
    await send({"type": "http.response.body", "body": body, "more_body": False})
