"""`GET /openapi.json`: OpenAPI 3.1 of every route, made of the message types and of what is told beside the routes."""

import re
from collections.abc import Iterator
from functools import cache
from http import HTTPStatus

import msgspec
from msgspec import Struct
from quart import Response
from quart_trio import QuartTrio

import clinvoker
from clinvoker.api.operation import SSE, Operation, operation_of
from clinvoker.api.schemas import SURFACES, AnthropicError, Json, Schemas, surface_of

JSON = "application/json"

ANY = (400, 401, 403, 429, 500, 503)
"""Statuses of the errors that any request may meet; those outside the guard meet no more than these."""

WITH_BODY = (413, 415)
"""And a request with a body."""

OVERLOADED = 529
"""What the Anthropic API says where the others say 503."""

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")

_WORDS = re.compile("[^A-Za-z0-9]+")
_PARAMETER = re.compile(r"<(?:path:)?(\w+)>")


ABOUT = """\
The coding agents of this machine as one local service.

The schema of a stream (`text/event-stream`, `application/x-ndjson`) is that of each of its events; where nothing
happens, comments, empty lines or `ping` events keep it alive. The last `data` of a stream of completions is `[DONE]`,
or an `OpenAIError` if it broke off. Every answer carries `x-request-id`.

`/api/v1/ws` is a websocket: JSON objects in text frames, those of the client by the schema `ClientFrame`, those of the
server by `ServerFrame` and, with the `ref` of their run, `Event`. Only the handshake is described here.

Besides what is listed, any request may be answered 404 or 405, and those that are malformed, too large or too slow 400,
408, 414 or 431, each in the dialect of its path. No key is needed where none is configured.
"""


def register(app: QuartTrio) -> None:
    """Add the route, after all others."""

    @cache
    def written() -> bytes:
        return msgspec.json.encode(document(app))

    @app.get("/openapi.json")
    @Operation(summary="This document", answers=(Json,))
    async def openapi() -> Response:  # pyright: ignore[reportUnusedFunction] - quart keeps it
        return Response(written(), content_type=JSON)


class Route(Struct, frozen=True):
    """A handler with the path that it is documented under: the first of those it has."""

    path: str
    method: str
    told: Operation
    others: tuple[str, ...]


def document(app: QuartTrio) -> Json:
    """The document of all routes of an app."""
    routes = list(routes_of(app))
    schemas = Schemas((route.path, route.told) for route in routes)
    paths: dict[str, Json] = {}
    for route in routes:
        path = _PARAMETER.sub(r"{\1}", route.path)
        paths.setdefault(path, {})[route.method.lower()] = _operation(route, schemas)
    return {
        "openapi": "3.1.0",
        "info": {"title": "clinvoker", "version": clinvoker.__version__, "description": ABOUT},
        "servers": [{"url": "/"}],
        "tags": [{"name": surface.tag} for surface in SURFACES],
        "security": [{"bearer": []}, {"x-api-key": []}, {"api_key": []}],
        "paths": paths,
        "components": {
            "schemas": schemas.components,
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "x-api-key": {"type": "apiKey", "in": "header", "name": "x-api-key"},
                "api_key": {"type": "apiKey", "in": "query", "name": "api_key"},
            },
        },
    }


def routes_of(app: QuartTrio) -> Iterator[Route]:
    """What is told of the app's routes. Raises `LookupError` for one of which nothing is."""
    paths: dict[str, list[tuple[str, set[str]]]] = {}
    for rule in app.url_map.iter_rules():
        paths.setdefault(rule.endpoint, []).append((rule.rule, rule.methods or {"GET"}))
    for endpoint, ((path, methods), *others) in paths.items():
        told = operation_of(app.view_functions[endpoint])
        if told is None:
            raise LookupError(f"nothing is told of {path}: its handler needs @Operation")
        for method in METHODS:
            if method in methods:
                yield Route(path, method, told, tuple(other for other, _ in others))


def _operation(route: Route, schemas: Schemas) -> Json:
    told, path = route.told, route.path
    described: Json = {
        "tags": [surface_of(path).tag],
        "summary": told.summary,
        "operationId": f"{route.method.lower()}_{_WORDS.sub('_', path).strip('_')}",
        "responses": {str(told.status): _success(route, schemas)} | _refusals(route, schemas),
    }
    if route.others:
        described["description"] = f"Also under {', '.join(route.others)}."
    if not told.needs_key:
        described["security"] = []
    if parameters := [*_in_path(path), *_parameters(route, schemas)]:
        described["parameters"] = parameters
    if told.body is not None:
        described["requestBody"] = {
            "required": True,
            "content": {JSON: {"schema": schemas.of(path, told.body)}},
        }
    return described


def _success(route: Route, schemas: Schemas) -> Json:
    told = route.told
    content: Json = {}
    if told.answers:
        kinds = [schemas.of(route.path, kind) for kind in told.answers]
        content[JSON] = {"schema": kinds[0] if len(kinds) == 1 else {"anyOf": kinds}}
    for media_type, kind in told.streams.items():
        event = schemas.of(route.path, kind)
        content[media_type] = {"schema": _frame(event, told.last_data) if media_type == SSE else event}
    for media_type in told.texts:
        content[media_type] = {"schema": {"type": "string"}}
    described: Json = {"description": HTTPStatus(told.status).phrase}
    return described | ({"content": content} if content else {})


def _frame(event: Json, last_data: str) -> Json:
    """One event of an SSE stream, described as OpenAPI 3.2 does: the JSON is in its `data`."""
    data: Json = {"type": "string", "contentMediaType": JSON, "contentSchema": event}
    if last_data:
        data = {"anyOf": [data, {"const": last_data}]}
    text = {"type": "string"}
    return {"type": "object", "properties": {"id": text, "event": text, "data": data}, "required": ["data"]}


def _refusals(route: Route, schemas: Schemas) -> Json:
    told = route.told
    surface = surface_of(route.path)
    statuses = {*ANY, *told.refusals, *(WITH_BODY if told.body is not None else ())}
    if surface.error is AnthropicError:
        statuses.add(OVERLOADED)
    content = {JSON: {"schema": schemas.error(route.path)}}
    return {str(status): {"description": _phrase(status), "content": content} for status in sorted(statuses)}


def _phrase(status: int) -> str:
    return "Overloaded" if status == OVERLOADED else HTTPStatus(status).phrase


def _in_path(path: str) -> list[Json]:
    return [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in _PARAMETER.findall(path)
    ]


def _parameters(route: Route, schemas: Schemas) -> list[Json]:
    return [
        {
            "name": parameter.name,
            "in": parameter.place,
            "description": parameter.description,
            "schema": schemas.of(route.path, parameter.kind),
        }
        for parameter in route.told.parameters
    ]
