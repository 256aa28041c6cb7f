"""What every surface's handlers share: reading the request at hand, and writing the answer to it."""

from collections.abc import AsyncIterator
from typing import cast

import msgspec
from quart import Response, has_websocket_context, request, websocket
from quart_trio.wrappers import TrioResponse

from actors.errors import Code, Refusal
from actors.messages import Entry
from clinvoker.api import frames
from clinvoker.api.guard import CALLER, REQUEST_ID
from clinvoker.follower import Follower
from clinvoker.http.stream import streaming
from clinvoker.service import Service

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


def caller() -> str:
    """Whose request this is: what they start is theirs, and nobody else finds it."""
    scope = cast("dict[str, str]", websocket.scope if has_websocket_context() else request.scope)
    return scope.get(CALLER, "")


def request_id() -> str:
    """The id of the request at hand."""
    return cast("dict[str, str]", request.scope)[REQUEST_ID]


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


async def _frames(follower: Follower, frame: frames.Frame, first: list[Entry] | None) -> AsyncIterator[bytes]:
    if first:
        yield frame(first)
    async for page in follower:
        for at in range(0, len(page), WRITTEN_AT_ONCE):
            yield frame(page[at : at + WRITTEN_AT_ONCE])
