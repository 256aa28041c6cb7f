"""Which request heads are refused before anything acts on them (platform.md rows 1 and 10). Pure functions."""

import re
from typing import Any
from urllib.parse import urlsplit

import h11

from clinvoker.http.limits import Limits
from clinvoker.http.refusal import Refusal

# hypercorn, wsproto and h11 decode these as ASCII; one byte above it ended the whole server (row 1).
_READ_BY_MACHINES = frozenset(
    (b"host", b"connection", b"upgrade", b"content-length", b"transfer-encoding", b"expect"),
)

# Of two values one would be checked and the other perhaps used. (h11 refuses two hosts.)
_ONCE = (b"authorization", b"content-encoding", b"content-type", b"origin", b"x-api-key")

# What h11 takes for an end of a line, a header field or a part of it, and what the next program may read otherwise.
_BARE_LF = re.compile(rb"(?<!\r)\n")
_FOLDED = re.compile(rb"\n[ \t]")
_CONTROL = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_LENGTH = re.compile(rb"\ncontent-length:([^\r]*)", re.IGNORECASE)

_PATH = re.compile(rb"[A-Z]+ (/[^ ?\r\n]*)")

_MALFORMED = {
    431: Refusal(431, "headers_too_large", "the request head is too large"),
    501: Refusal(501, "not_implemented", "this transfer coding is not supported"),
}


def vet_raw(head: bytes) -> Refusal | None:
    """Return why a head is refused by its bytes: the ways to write one that two programs read as two (RFC 9112, 11.2)."""
    if _BARE_LF.search(head):
        return _bad("a line of the head ends without CR")
    if _FOLDED.search(head):
        return _bad("a header field goes on in the next line")
    if _CONTROL.search(head):
        return _bad("there is a control character in the head")
    lengths = _LENGTH.findall(head)  # h11 takes two that are equal for one
    if len(lengths) > 1 or any(b"," in length for length in lengths):
        return _bad("there is more than one Content-Length")
    return None


def understood(head: bytes) -> dict[str, Any]:
    """Return what an unfinished or malformed head says of the path: whose dialect the refusal is to be in."""
    found = _PATH.match(head)
    return {"path": found[1].decode("ascii", "replace")} if found else {}


def vet(request: h11.Request, limits: Limits) -> bytes | Refusal:
    """Return the target in origin form (`/path?query`), or the reason why this request is refused."""
    headers = list(request.headers)
    names = [name for name, _ in headers]
    declared = next((int(value) for name, value in headers if name == b"content-length"), 0)
    refusal = (
        _vet_sizes(request.target, headers, limits)
        or _vet_bytes(headers)
        or _vet_once(names)
        or _vet_framing(request.http_version, names)
        or _vet_method(request.method, names, headers)
    )
    if refusal is not None:
        return refusal
    if declared > limits.max_body_bytes:
        return too_large(limits)
    return _origin_form(request.target, headers)


def too_large(limits: Limits) -> Refusal:
    """Return the refusal of a body over the limit, declared or counted."""
    return Refusal(413, "request_too_large", f"the body is larger than {limits.max_body_bytes} bytes")


def trailed() -> Refusal:
    """Return the refusal of header fields behind a chunked body: nobody here would read them."""
    return _bad("header fields behind the body are not taken")


def malformed(status: int) -> Refusal:
    """Return the refusal of what h11 could not parse, by the status it suggests; the peer's bytes are not repeated."""
    return _MALFORMED.get(status, Refusal(400, "bad_request", "this is not HTTP/1.1"))


def _bad(message: str) -> Refusal:
    return Refusal(400, "bad_request", message)


def _vet_sizes(target: bytes, headers: list[tuple[bytes, bytes]], limits: Limits) -> Refusal | None:
    if len(target) > limits.url_bytes:
        return Refusal(414, "url_too_long", f"the request target is longer than {limits.url_bytes} bytes")
    # h11 bounds only a head that comes in pieces: one that arrives in a single read passes whatever its size.
    if (
        len(headers) > limits.header_fields
        or sum(len(n) + len(v) + 4 for n, v in headers) > limits.header_bytes
    ):
        return Refusal(431, "headers_too_large", "too many or too large header fields")
    return None


def _vet_bytes(headers: list[tuple[bytes, bytes]]) -> Refusal | None:
    for name, value in headers:
        if (name in _READ_BY_MACHINES or name.startswith(b"sec-websocket-")) and not value.isascii():
            return _bad(f"the header {name.decode('ascii')} has bytes outside of ASCII")
    return None


def _vet_once(names: list[bytes]) -> Refusal | None:
    twice = next((name for name in _ONCE if names.count(name) > 1), None)
    return None if twice is None else _bad(f"there is more than one {twice.decode()} header")


def _vet_framing(version: bytes, names: list[bytes]) -> Refusal | None:
    if version not in {b"1.0", b"1.1"}:
        return Refusal(505, "http_version_not_supported", "only HTTP/1.1 is spoken here")
    chunked = b"transfer-encoding" in names
    # Two lengths for one body, or one that an HTTP/1.0 proxy does not know: the two ways to smuggle a request.
    if chunked and b"content-length" in names:
        return _bad("Content-Length and Transfer-Encoding exclude each other")
    if chunked and version == b"1.0":
        return _bad("Transfer-Encoding is not part of HTTP/1.0")
    return None


def _vet_method(method: bytes, names: list[bytes], headers: list[tuple[bytes, bytes]]) -> Refusal | None:
    if method == b"CONNECT":
        return Refusal(405, "method_not_allowed", "this is no proxy")
    body = b"transfer-encoding" in names or any(n == b"content-length" and v != b"0" for n, v in headers)
    if body and is_websocket(method, headers):
        return _bad("a websocket handshake has no body")
    return None


def is_websocket(method: bytes, headers: list[tuple[bytes, bytes]]) -> bool:
    """Tell whether this head asks for a websocket. Other upgrades (h2c, which curl --http2 offers) are ignored."""
    upgrade = connection = b""
    for name, value in headers:
        if name == b"upgrade":
            upgrade = value.strip().lower()
        elif name == b"connection":
            connection += b"," + value.lower()
    tokens = {token.strip() for token in connection.split(b",")}
    return method == b"GET" and upgrade == b"websocket" and b"upgrade" in tokens


def _origin_form(target: bytes, headers: list[tuple[bytes, bytes]]) -> bytes | Refusal:
    if target.startswith(b"/"):
        return target
    # The app and the guards around it must see one path and one host, so an absolute target is taken apart here.
    try:
        parts = urlsplit(target.decode("ascii"))
    except ValueError:
        return _bad("the request target is malformed")
    if parts.scheme not in {"http", "https"} or not parts.netloc:
        return _bad("the request target must be a path")
    host = next((value for name, value in headers if name == b"host"), b"")
    if parts.netloc.lower().encode() != host.strip().lower():
        return _bad("the request target names another host than the Host header")
    return f"{parts.path or '/'}{'?' if parts.query else ''}{parts.query}".encode("ascii")
