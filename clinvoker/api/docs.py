"""`GET /docs`: `/openapi.json` for people, as one page that loads nothing from anywhere."""

from collections.abc import Iterator
from functools import cache
from html import escape
from typing import Any, cast

import msgspec
from quart import Response
from quart_trio import QuartTrio

from clinvoker.api.openapi import Json, document
from clinvoker.api.operation import SCHEMAS, Operation

HTML = "text/html"

POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

_STYLE = """\
:root { color-scheme: light dark; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; }
code, pre { font: 13px/1.45 ui-monospace, monospace; }
pre { overflow-x: auto; padding: .6rem; background: color-mix(in srgb, currentColor 7%, transparent); }
details { border-top: 1px solid color-mix(in srgb, currentColor 20%, transparent); padding: .4rem 0; }
summary { cursor: pointer; }
summary b { display: inline-block; min-width: 4.5rem; }
td, th { text-align: left; vertical-align: top; padding: .1rem 1rem .1rem 0; }
"""


def register(app: QuartTrio) -> None:
    """Add the route."""

    @cache
    def written() -> str:
        return page(document(app))

    @app.get("/docs")
    @Operation(summary="This document for people", texts=(HTML,))
    async def docs() -> Response:  # pyright: ignore[reportUnusedFunction] - quart keeps it
        response = Response(written(), content_type=f"{HTML}; charset=utf-8")
        response.headers["content-security-policy"] = POLICY
        response.headers["x-content-type-options"] = "nosniff"
        return response


def page(told: Json) -> str:
    """The document as HTML."""
    info = told["info"]
    title = f"{info['title']} {info['version']}"
    sections = "".join(_section(told, tag["name"]) for tag in told["tags"])
    schemas = "".join(
        f'<details id="{escape(name)}"><summary><code>{escape(name)}</code></summary>{_json(schema)}</details>'
        for name, schema in sorted(told["components"]["schemas"].items())
    )
    about = "".join(f"<p>{_prose(part)}</p>" for part in info["description"].split("\n\n"))
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style>'
        f"<h1>{escape(title)}</h1>{about}{sections}<h2>Schemas</h2>{schemas}</html>"
    )


def _section(told: Json, tag: str) -> str:
    operations = "".join(
        _operation(path, method, operation)
        for path, methods in told["paths"].items()
        for method, operation in methods.items()
        if tag in operation["tags"]
    )
    return f"<h2>{escape(tag)}</h2>{operations}"


def _operation(path: str, method: str, told: Json) -> str:
    head = f"<b>{method.upper()}</b> <code>{escape(path)}</code> {_prose(told['summary'])}"
    about = f"<p>{_prose(told['description'])}</p>" if "description" in told else ""
    return f"<details><summary>{head}</summary>{about}<table>{''.join(_rows(told))}</table></details>"


def _rows(told: Json) -> Iterator[str]:
    for parameter in told.get("parameters", ()):
        about = _prose(parameter.get("description", ""))
        yield _row(f"<code>{escape(parameter['name'])}</code> in {parameter['in']}", about)
    if "requestBody" in told:
        yield _row("body", _content(told["requestBody"]["content"]))
    refusals: list[str] = []
    for status, answer in told["responses"].items():
        if status.startswith(("1", "2")):
            yield _row(f"{status} {escape(answer['description'])}", _content(answer.get("content", {})))
        else:
            refusals.append(status)
    yield _row("errors", ", ".join(refusals))


def _row(name: str, what: str) -> str:
    return f"<tr><th>{name}</th><td>{what}</td></tr>"


def _content(content: Json) -> str:
    """Each media type with the names of what it carries."""
    return "<br>".join(
        f"{escape(media_type)} {', '.join(_links(told['schema']))}" for media_type, told in content.items()
    )


def _links(schema: Any) -> Iterator[str]:  # noqa: ANN401 - any JSON
    """Links to the schemas that a schema names."""
    if isinstance(schema, dict):
        schema = cast("Json", schema)
        name = schema.get("$ref", "").removeprefix(SCHEMAS)
        if name:
            yield f'<a href="#{escape(name)}">{escape(name)}</a>'
        for part in schema.values():
            yield from _links(part)
    elif isinstance(schema, list):
        for part in cast("list[Any]", schema):
            yield from _links(part)


def _json(value: object) -> str:
    return f"<pre>{escape(msgspec.json.format(msgspec.json.encode(value)).decode())}</pre>"


def _prose(text: str) -> str:
    """Text in which `words` are code."""
    parts = escape(text).split("`")
    return "".join(f"<code>{part}</code>" if index % 2 else part for index, part in enumerate(parts))
