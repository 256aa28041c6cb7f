"""What every surface's handlers share: reading the request at hand, and writing the answer to it."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from math import inf
from typing import cast

import msgspec
from msgspec import UNSET
from quart import Response, has_websocket_context, request, websocket
from quart_trio.wrappers import TrioResponse

from actors.errors import Code, Refusal
from actors.messages import Entry, Failed, as_refusal
from clinvoker.api import frames
from clinvoker.api.errors import render
from clinvoker.api.guard import CALLER, CLIENT, REQUEST_ID
from clinvoker.follower import Follower
from clinvoker.http.exchange import CutShort
from clinvoker.http.stream import current_request_stack, streaming
from clinvoker.service import Service

MAX_KEY = 256
"""Characters of an Idempotency-Key."""
WRITTEN_AT_ONCE = 256
"""Entries of a stream that are encoded before the reader has taken those before: what one that has stopped holds."""

UTF_8 = frozenset({"utf-8", "utf8", "us-ascii"})
"""The charsets that a body may be declared in; JSON has no other."""


def check_declared() -> None:
    """Raise `Refusal` for a body that is not declared as JSON, and plain: that is what forces a browser to ask first.

    Also where nothing reads the body, so that no page can send a request without being asked about.
    """
    if "transfer-encoding" not in request.headers and request.headers.get("content-length", "0") == "0":
        return
    charset = request.mimetype_params.get("charset", "utf-8").lower()
    if request.mimetype != "application/json" or charset not in UTF_8:
        message = "the body must be declared as content-type: application/json, in UTF-8"
        raise Refusal(Code.UNSUPPORTED_MEDIA, message, param="content-type")
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        message = "the body must come without a content-encoding"
        raise Refusal(Code.UNSUPPORTED_MEDIA, message, param="content-encoding")


async def body() -> bytes:
    """The request's body, declared as JSON (`check_declared` has seen to it)."""
    data = await request.get_data()
    return data if isinstance(data, bytes) else data.encode()


def reply(value: object) -> Response:
    """A value as a JSON answer."""
    return Response(msgspec.json.encode(value), content_type="application/json")


def idempotency_key() -> str:
    """The key under which the request at hand may be sent again; empty without one."""
    key = request.headers.get("idempotency-key", "")
    if len(key) > MAX_KEY:
        message = f"an Idempotency-Key has at most {MAX_KEY} characters"
        raise Refusal(Code.INVALID_REQUEST, message, param="Idempotency-Key")
    return key


def framing(*, stream: bool, ndjson: bool) -> frames.Framing | None:
    """How the answer is to be streamed, as the body asks or the Accept header; None for one JSON object."""
    # Where the caller has no preference, the first of these.
    accepted = request.accept_mimetypes.best_match(
        ["application/json", "text/event-stream", "application/x-ndjson"]
    )
    if ndjson or accepted == "application/x-ndjson":
        return frames.NDJSON
    if stream or accepted == "text/event-stream":
        return frames.SSE
    return None


def caller() -> str:
    """Whose request this is: what they start is theirs, and nobody else finds it."""
    return _scope().get(CALLER, "")


def client() -> str:
    """Whose limits count for this request."""
    return _scope().get(CLIENT, "")


def request_id() -> str:
    """The id of the request at hand."""
    return cast("dict[str, str]", request.scope)[REQUEST_ID]


def _scope() -> dict[str, str]:
    return cast("dict[str, str]", websocket.scope if has_websocket_context() else request.scope)


def stream(
    service: Service, follower: Follower, framing: frames.Framing, first: list[Entry] | None = None
) -> TrioResponse:
    """A run's entries as a stream; `first` are those that were taken from the follower already."""
    return streaming(
        _frames(follower, framing.frame, first),
        framing.content_type,
        {"x-clinvoker-run": follower.identity.run_id},
        heartbeat=framing.heartbeat,
        heartbeat_s=service.settings.server.heartbeat_secs,
    )


async def answer_run(
    service: Service,
    run_id: str,
    whole: Callable[[Follower, list[Entry]], Awaitable[object]],
    framing: frames.Framing | None,
) -> Response:
    """A run as a stream, or as what `whole` makes of the run and its first entries.

    A run that never began is refused here, before any header has gone out.
    """
    follower = await service.follow(run_id, caller())
    current_request_stack().callback(follower.close)
    first = await anext(follower)
    if first[0].task is UNSET and isinstance(first[0].content, Failed):
        raise as_refusal(first[0].content)
    if framing is None:
        return reply(await whole(follower, first))
    return stream(service, follower, framing, first)


async def _frames(follower: Follower, frame: frames.Frame, first: list[Entry] | None) -> AsyncIterator[bytes]:
    if first:
        yield frame(first)
    async for page in follower:
        for at in range(0, len(page), WRITTEN_AT_ONCE):
            yield frame(page[at : at + WRITTEN_AT_ONCE])


async def reply_in_time(
    service: Service,
    answer: Callable[[float], Awaitable[object | None]],
    headers: Mapping[str, str],
) -> Response:
    """A JSON answer that may take long: `answer` returns it, or None if it is not there in so many seconds.

    After `heartbeat_secs` status 200 goes out, and blanks, which JSON allows before a value: nobody on the way takes the
    connection for dead. An error after that is told in the body, which is then cut, so that no client takes it for an
    answer. Raises `Refusal` before.
    """
    beat = service.settings.server.heartbeat_secs
    value = await answer(beat)
    if value is None:
        late = _late(answer, request.path, request_id())
        return streaming(late, "application/json", headers, heartbeat=b" ", heartbeat_s=beat)
    response = reply(value)
    response.headers.update(headers)
    return response


async def _late(
    answer: Callable[[float], Awaitable[object | None]], path: str, request_id: str
) -> AsyncIterator[bytes]:
    yield b" "
    try:
        value = await answer(inf)
    except Refusal as refusal:
        yield render(refusal, path, request_id)[1]
        raise CutShort from None
    yield msgspec.json.encode(value)
