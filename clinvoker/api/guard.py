"""One ASGI callable around the app, for HTTP and websockets alike: who may call, decided before any route is looked up.

`Host` must be loopback or listed, against DNS rebinding; a foreign `Origin` is refused on every method; with keys
configured, everything but `/health` and a client's probe needs one; a caller who asks too often waits (contract, section 7).
"""

import re
import secrets
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping
from ipaddress import IPv4Address, IPv6Address
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlencode

from actors.errors import Code, Refusal
from clinvoker.api.address import address_of, networks
from clinvoker.api.dialects import ANTHROPIC
from clinvoker.api.errors import render
from clinvoker.api.rates import LIMITED, Rates, check
from clinvoker.callers import Caller, Callers
from clinvoker.config import Settings
from clinvoker.errors import status_of
from clinvoker.http.exchange import App, Receive, Send
from clinvoker.http.inbox import Message
from clinvoker.metrics import REFUSED

OPEN_PATHS = frozenset({"/health"})
"""Answered without a key, compared exactly."""

PROBED = frozenset({"/", ANTHROPIC, f"{ANTHROPIC}/"})
"""Where clients look whether anybody is there, by a HEAD, and before they show a key (clients.md, 1.4)."""

_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[^:\[\]]+)(?::[0-9]*)?")

REQUEST_ID = "clinvoker.request_id"
"""Where the scope of a request has its id, which its answer carries whoever gives it."""


ROUTE = "clinvoker.route"
"""Where the scope of a request has the rule of its path, once it has been looked up."""

CALLER = "clinvoker.caller"
"""Where the scope of a request has who sends it: empty without keys, else what stands for the key."""

CLIENT = "clinvoker.client"
"""Where the scope of a request has whose limits count: the key's, or the address's."""


COUNT_AGAIN = "clinvoker.count_again"
"""Where the scope of a websocket has how a further request on it is counted."""

CountAgain = Callable[[], Awaitable[None]]
"""Counts a further request of the same caller. Raises `Refusal` if it may not be made yet."""

Count = Callable[[str, str, int], None]
"""Counts a request: its route, method and status."""


def new_request_id() -> str:
    """Return an id for a request."""
    return f"req_{secrets.token_hex(12)}"


def id_headers(path: str, request_id: str) -> list[tuple[bytes, bytes]]:
    """Return the headers that carry a request's id."""
    anthropics = path == ANTHROPIC or path.startswith(f"{ANTHROPIC}/")
    names = (b"x-request-id", b"request-id") if anthropics else (b"x-request-id",)
    return [(name, request_id.encode()) for name in names]


class Guard:
    """Lets a request through, or answers it."""

    def __init__(self, app: App, settings: Settings, count: Count, rates: Rates) -> None:
        self._app = app
        self._count = count
        self._rates = rates
        self.reconfigure(settings)

    def reconfigure(self, settings: Settings) -> None:
        """Take settings for the requests to come."""
        self._callers = Callers(settings)
        self._proxies = networks(settings.server.trusted_proxies)
        self._rates.reconfigure(settings)
        self._origins = frozenset(settings.server.cors_allowed_origins)
        self._hosts = frozenset(_host_name(host) for host in settings.server.allowed_hosts)

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Serve an ASGI connection."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        headers = _headers(scope["headers"])
        scope[REQUEST_ID] = new_request_id()
        scope[CALLER], scope[CLIENT] = "", ""
        extra = id_headers(scope["path"], scope[REQUEST_ID])
        send = _with_headers(send, extra)
        origin = headers.get("origin")
        try:
            self._check(headers)
            if origin is not None:
                extra += _cors(origin, headers.get("access-control-request-headers"))
                if scope["type"] == "http" and scope["method"] == "OPTIONS":
                    await _answer(send, 204, b"", [])  # a browser's preflight carries no key
                    return
            await self._admit(scope, headers, extra)
        except Refusal as refusal:
            self._count(REFUSED, scope.get("method", "GET"), status_of(refusal.code))
            await _refuse(scope, refusal, send)
            return
        await self._app(scope, receive, send)

    def _check(self, headers: Mapping[str, str]) -> None:
        host = _host_name(headers.get("host", ""))
        if not host or not (_is_loopback(host) or host in self._hosts):
            raise Refusal(Code.FORBIDDEN, "this Host is not one that the daemon answers to", param="host")
        origin = headers.get("origin")
        if origin is not None and origin not in self._origins:
            raise Refusal(Code.FORBIDDEN, "this Origin may not call the daemon", param="origin")
        if origin is None and headers.get("sec-fetch-site") == "cross-site":
            # A page's <img>, <script> or link: a browser names no Origin there, but says this.
            raise Refusal(Code.FORBIDDEN, "another site may not call the daemon", param="sec-fetch-site")

    async def _admit(
        self, scope: MutableMapping[str, Any], headers: Mapping[str, str], extra: list[tuple[bytes, bytes]]
    ) -> None:
        """Find out who it is, and count the request; what the answer says of that goes to `extra`.

        A wrong key counts against the address it comes from.
        """
        path: str = scope["path"]
        if path in OPEN_PATHS or (path in PROBED and scope.get("method") == "HEAD"):
            return
        caller, unknown = None, None
        address = address_of(scope, self._proxies)
        try:
            caller = self._callers.identify(_take_presented(scope, headers), address)
            scope[CALLER], scope[CLIENT] = caller.owner, caller.client
        except Refusal as refusal:
            unknown = refusal
        if path.startswith(LIMITED):
            standing = await self._rates.count(address if caller is None else caller.client)
            extra += self._rates.headers(path, standing, caller, self._daily(caller))
            check(standing)
        if unknown is not None:
            raise unknown

        async def count_again() -> None:
            check(await self._rates.count(scope[CLIENT]))

        scope[COUNT_AGAIN] = count_again

    def _daily(self, caller: Caller | None) -> int | None:
        key = None if caller is None else self._callers.key_of(caller.owner)
        return None if key is None else key.daily_tokens


def _take_presented(scope: MutableMapping[str, Any], headers: Mapping[str, str]) -> str:
    """The key of a request: `Authorization: Bearer`, `x-api-key`, or `?api_key=`, in that order.

    One in the query is taken out of it, so that nothing behind the guard can repeat it.
    """
    query: str = scope["query_string"].decode("latin-1")
    given = ""
    if "api_key" in query:
        given = parse_qs(query).get("api_key", [""])[0]
        rest = [pair for pair in parse_qsl(query, keep_blank_values=True) if pair[0] != "api_key"]
        scope["query_string"] = urlencode(rest).encode()
    scheme, _, credentials = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and credentials:
        return credentials.strip()
    if "x-api-key" in headers:
        return headers["x-api-key"]
    return given


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
    """Send with these headers, of which more may come until the answer begins."""

    async def sending(message: Message) -> None:
        if message["type"] in {"http.response.start", "websocket.http.response.start"}:
            message = {**message, "headers": [*message.get("headers", []), *extra]}
        await send(message)

    return sending


async def _refuse(scope: Mapping[str, Any], refusal: Refusal, send: Send) -> None:
    status, body, headers = render(refusal, scope["path"], scope[REQUEST_ID])
    kind = "http.response"
    if scope["type"] == "websocket":
        kind = "websocket.http.response"
        if kind not in scope.get("extensions", {}):
            # Before the handshake is accepted, this is an HTTP 403 (ASGI websocket spec, "Close").
            await send({"type": "websocket.close", "code": 1008})
            return
    pairs = [(name.encode(), value.encode()) for name, value in headers.items()]
    await _answer(send, status, body, pairs, kind)


async def _answer(
    send: Send, status: int, body: bytes, headers: list[tuple[bytes, bytes]], kind: str = "http.response"
) -> None:
    length = (b"content-length", b"%d" % len(body))
    await send({"type": f"{kind}.start", "status": status, "headers": [*headers, length]})
    await send({"type": f"{kind}.body", "body": body, "more_body": False})
