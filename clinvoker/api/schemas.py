"""The schemas of `/openapi.json`: of all message types that are told of beside the routes (`operation`).

A message type's schema is msgspec's own (JSON Schema 2020-12, which OpenAPI 3.1 uses as it is).
"""

import re
from collections.abc import Iterable
from typing import Any, Union, cast, get_args

import msgspec
from msgspec import NODEFAULT, Struct
from msgspec.structs import fields

from actors.messages import Complete, Entry, Event, Failed
from clinvoker.api.dialects import ANTHROPIC, OPENAI
from clinvoker.api.operation import SCHEMAS, Operation
from clinvoker.api.websocket_frames import Answered, Cancelled, Detached, Ended, ErrorEvent, Frame
from clinvoker.errors import Body

Json = dict[str, Any]


class NativeError(Struct, frozen=True):
    """An error of the native API."""

    error: Body


class OpenAIFault(Struct, frozen=True):
    """The inside of an OpenAI error."""

    message: str
    type: str
    param: str | None
    code: str


class OpenAIError(Struct, frozen=True):
    """An error in the words of the OpenAI API."""

    error: OpenAIFault


class AnthropicFault(Struct, frozen=True):
    """The inside of an Anthropic error."""

    type: str
    message: str


class AnthropicError(Struct, frozen=True, tag="error"):
    """An error in the words of the Anthropic API."""

    error: AnthropicFault
    request_id: str


class Surface(Struct, frozen=True):
    """The part of the paths that speaks one API's dialect. `name` begins the names of its schemas."""

    prefix: str
    tag: str
    name: str
    error: type[Struct]


SURFACES = (
    Surface(OPENAI, "OpenAI", "OpenAI", OpenAIError),
    Surface(ANTHROPIC, "Anthropic", "Anthropic", AnthropicError),
    Surface("/api", "native", "", NativeError),
    Surface("", "daemon", "", NativeError),
)


_ServerFrame = Detached | Ended | Cancelled | Answered | ErrorEvent


def surface_of(path: str) -> Surface:
    """The surface that a path belongs to."""
    return next(surface for surface in SURFACES if path.startswith(surface.prefix))


class Schemas:
    """The schemas of all types that are told of; names are their own within a surface, and begin with its name."""

    def __init__(self, operations: Iterable[tuple[str, Operation]]) -> None:
        self.components: Json = {}
        self._of: dict[tuple[str, Any], Json] = {}
        kinds: dict[str, list[Any]] = {surface.name: [] for surface in SURFACES}
        for path, told in operations:
            parameters = [parameter.kind for parameter in told.parameters]
            some = [told.body, *told.answers, *told.streams.values(), *parameters]
            kinds[surface_of(path).name] += [kind for kind in some if kind not in {None, Entry}]
        event = _event_type()
        kinds[""] += [event, Complete, Failed, *(surface.error for surface in SURFACES)]
        kinds["Websocket"] = [Frame, _ServerFrame]
        for name, some in kinds.items():
            self._describe(name, some)
        self.components |= {
            "Event": self._of["", event],
            "ClientFrame": self._of["Websocket", Frame],
            "ServerFrame": self._of["Websocket", _ServerFrame],
        }

    def of(self, path: str, kind: Any) -> Json:  # noqa: ANN401 - any type
        """The schema of a type, as one of the surface of that path."""
        return {"$ref": f"{SCHEMAS}Event"} if kind is Entry else self._of[surface_of(path).name, kind]

    def error(self, path: str) -> Json:
        """The schema of errors under that path."""
        return self._of["", surface_of(path).error]

    def _describe(self, name: str, kinds: list[Any]) -> None:
        schemas, components = msgspec.json.schema_components(kinds, ref_template=f"{SCHEMAS}{name}{{name}}")
        self._of |= {(name, kind): _portable(each) for kind, each in zip(kinds, schemas, strict=True)}
        self.components |= {name + each: _portable(schema) for each, schema in components.items()}


def _portable(schema: Any) -> Any:  # noqa: ANN401 - any JSON
    """A schema whose patterns begin and end as all know it, not in Python's own way."""
    if isinstance(schema, list):
        return [_portable(each) for each in cast("list[Any]", schema)]
    if not isinstance(schema, dict):
        return schema
    told = {key: _portable(each) for key, each in cast("Json", schema).items()}
    if isinstance(pattern := told.get("pattern"), str):
        told["pattern"] = re.sub(r"\A\\A(.*)\\Z\Z", r"^\1$", pattern)
    return told


def _event_type() -> Any:  # noqa: ANN401 - a union made here
    """`Entry` as a union of one type an event, which is how it is written: msgspec describes no other unions."""
    rest = [
        (each.encode_name, each.type)
        if each.default is NODEFAULT
        else (each.encode_name, each.type, each.default)
        for each in fields(Entry)
        if each.name not in {"type", "content"}
    ]
    kinds = [
        msgspec.defstruct(
            f"{kind.__name__}Event",
            [("content", kind), *rest],
            namespace={"__doc__": kind.__doc__},
            tag_field="type",
            tag=kind.TYPE,
        )
        for kind in get_args(Event)
    ]
    return Union[tuple(kinds)]  # noqa: UP007 - made here, of as many as there are
