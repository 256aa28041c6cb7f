"""What a route takes and gives, told beside it: `/openapi.json` is made of this, the message types and the routes."""

from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal, TypeVar

from msgspec import Meta, Struct

Handler = TypeVar("Handler", bound=Callable[..., Any])

SSE = "text/event-stream"
NDJSON = "application/x-ndjson"

SCHEMAS = "#/components/schemas/"
"""Where the document has its schemas."""

Entries = Annotated[list[Any], Meta(extra_json_schema={"items": {"$ref": f"{SCHEMAS}Event"}})]
"""Entries of a run's log as part of an answer: msgspec writes their union, and has no schema for it."""

_PLACE = "__clinvoker_operation__"


class Parameter(Struct, frozen=True):
    """A query parameter or a header of a request; `kind` is its type."""

    name: str
    description: str
    kind: Any = str
    place: Literal["query", "header"] = "query"


class Operation(Struct, frozen=True, kw_only=True):
    """One method of one path. Statuses that any request may meet are not repeated here."""

    summary: str
    answers: tuple[Any, ...] = ()
    """The types that the JSON answer may have."""
    body: Any = None
    """Type of the JSON body; None where there is none."""
    streams: Mapping[str, Any] = {}
    """The media types in which events can be had instead, each with its events' type."""
    last_data: str = ""
    """What the last `data` of an SSE stream is, where that is no event."""
    texts: tuple[str, ...] = ()
    """Media types of answers that are text."""
    parameters: tuple[Parameter, ...] = ()
    refusals: tuple[int, ...] = ()
    """Statuses of the errors that this operation may end in."""
    needs_key: bool = True
    status: int = 200
    """What a request that goes well is answered with."""

    def __call__(self, handler: Handler) -> Handler:
        """Decorate the handler that this is told of."""
        setattr(handler, _PLACE, self)
        return handler


TURN = (409, 502, 504)
"""What a request that takes a turn may end in, besides."""


def operation_of(handler: Callable[..., Any]) -> Operation | None:
    """What was told of a handler, if anything was."""
    return getattr(handler, _PLACE, None)
