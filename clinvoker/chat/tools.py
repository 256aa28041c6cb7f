"""The tools that a client offers with a request, and how it wants them used."""

import re
from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import Struct

from actors.errors import Code, Refusal
from actors.messages import Tool
from clinvoker.chat.structured import check_schema
from clinvoker.flows import Parallel

MOST = 512 * 1024
"""Bytes of all tools together, as JSON: more than any model has room for."""

_NAME = re.compile(r"[A-Za-z0-9_-]{1,128}")


NO_INPUT: dict[str, Any] = {"type": "object", "properties": {}}
"""The schema of a tool whose client gives none."""


class Named(Struct, frozen=True):
    """A tool, and which fields of the request its name and its schema are."""

    tool: Tool
    name_at: str
    schema_at: str


class Offered(Struct, frozen=True):
    """The client's tools."""

    tools: tuple[Tool, ...] = ()
    demanded: str | None = None
    """The one that the agent must call; empty for any; None when it may call none."""
    one_at_a_time: bool = False

    @property
    def calls(self) -> Parallel:
        """How many calls the client takes at a time."""
        if not self.tools:
            return "none"
        return "one" if self.one_at_a_time else "many"


def offered(tools: Sequence[Named], *, demanded: str | None = None, one_at_a_time: bool = False) -> Offered:
    """Return the tools that a request offers. Raises `Refusal` naming the field at fault."""
    found = tuple(each.tool for each in tools)
    if len(msgspec.json.encode(found)) > MOST:
        raise Refusal(Code.INVALID_REQUEST, f"tools: they have more than {MOST} bytes", param="tools")
    known: set[str] = set()
    for each in tools:
        name, where = each.tool.name, each.name_at
        if not _NAME.fullmatch(name):
            message = f"{where} must be 1 to 128 letters, digits, underscores and hyphens"
            raise Refusal(Code.INVALID_REQUEST, message, param=where)
        if name in known:
            raise Refusal(Code.INVALID_REQUEST, f"{where}: there are two tools {name!r}", param=where)
        known.add(name)
        _check_input(each.tool.schema, each.schema_at)
    if demanded and demanded not in known:
        message = f"tool_choice names {demanded!r}, which is none of the tools"
        raise Refusal(Code.INVALID_REQUEST, message, param="tool_choice")
    if demanded is not None and not known:
        raise Refusal(
            Code.INVALID_REQUEST, "tool_choice asks for a tool, and there is none", param="tool_choice"
        )
    return Offered(found, demanded, one_at_a_time)


def _check_input(schema: dict[str, Any], where: str) -> None:
    """Agents take no tool whose schema is none, or of no object: some then know none of the others either."""
    if schema.get("type") != "object":
        message = f'{where}: a tool is called with an object, so its type must be "object"'
        raise Refusal(Code.INVALID_REQUEST, message, param=where)
    check_schema(schema, where)


def demanding(text: str, wanted: Offered) -> str:
    """The prompt with the demand after it: an agent can be told to call a tool, not made to."""
    if wanted.demanded is None:
        return text
    what = (
        f"your tool {wanted.demanded}"
        if wanted.demanded
        else (f"one of your tools {', '.join(tool.name for tool in wanted.tools)}")
    )
    return f"{text}\n\nYou must call {what} before you answer."
