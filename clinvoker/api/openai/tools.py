"""A client's own tools, as both of this surface's APIs have them."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

import msgspec
from msgspec import Struct

from actors.errors import Code, Refusal
from actors.messages import Tool
from clinvoker.chat.tools import NO_INPUT, Named, Offered, offered

FREEFORM = {"type": "object", "properties": {"input": {"type": "string"}}, "required": ["input"]}
"""What a tool takes that takes a text: agents call all tools with an object."""

PIECE = 2048
"""Characters of a call's arguments in one event."""


class Described(Struct, frozen=True):
    """A tool, as it is described; its `parameters` are a JSON Schema."""

    name: str = ""
    description: str | None = None
    parameters: dict[str, Any] | None = None


class ChatTool(Struct, frozen=True):
    """A tool of a chat completion's."""

    type: str = "function"
    function: Described | None = None
    custom: Described | None = None


class ResponseTool(Struct, frozen=True):
    """A tool of a response's, or a namespace of such."""

    type: str = "function"
    name: str = ""
    description: str | None = None
    parameters: dict[str, Any] | None = None
    tools: list["ResponseTool"] | None = None


def of_chat(tools: Sequence[ChatTool] | None, choice: Any, *, parallel: bool | None) -> Offered:  # noqa: ANN401
    """The client's tools among those of a chat completion. Raises `Refusal` naming the field at fault."""
    found: list[Named] = []
    for index, tool in enumerate(tools or ()):
        described = tool.function if tool.type == "function" else tool.custom
        if tool.type not in {"function", "custom"}:
            continue  # the agent's own business
        where = f"tools[{index}].{tool.type}"
        if described is None:
            raise Refusal(Code.INVALID_REQUEST, f"{where} is missing", param=where)
        found.append(_named(described, where, freeform=tool.type == "custom"))
    return _chosen(found, choice, parallel=parallel)


def of_response(
    tools: Mapping[str, Sequence[ResponseTool]],
    choice: Any,  # noqa: ANN401
    *,
    parallel: bool | None,
) -> Offered:
    """The client's tools among those of a response, by the fields that they are in. Raises `Refusal` likewise.

    The agent has the others itself, and those of other namespaces are the client's own business with its models.
    """
    found = [
        _named(
            Described(tool.name, tool.description, tool.parameters),
            where,
            freeform=tool.type == "custom",
        )
        for field, each in tools.items()
        for where, tool in _functions(field, each)
    ]
    return _chosen(found, choice, parallel=parallel)


def _functions(field: str, tools: Sequence[ResponseTool]) -> Iterator[tuple[str, ResponseTool]]:
    """Those that are called by their bare names: the namespace `functions` is where all are that name none."""
    for index, tool in enumerate(tools):
        where = f"{field}[{index}]"
        if tool.type in {"function", "custom"}:
            yield where, tool
        elif tool.type == "namespace" and tool.name == "functions":
            yield from _functions(f"{where}.tools", tool.tools or ())


def arguments_of(given: Any) -> str:  # noqa: ANN401 - what the agent called the tool with
    """A call's arguments as the APIs have them: JSON in a string, or the text that a freeform tool takes."""
    return given if isinstance(given, str) else msgspec.json.encode(given).decode()


def pieces(text: str) -> Iterator[str]:
    """The text in pieces."""
    return (text[start : start + PIECE] for start in range(0, len(text), PIECE))


def _named(described: Described, where: str, *, freeform: bool) -> Named:
    schema = FREEFORM if freeform else described.parameters or NO_INPUT
    tool = Tool(described.name, described.description or "", schema, freeform)
    return Named(tool, f"{where}.name", f"{where}.parameters")


def _chosen(found: list[Named], choice: Any, *, parallel: bool | None) -> Offered:  # noqa: ANN401
    one = parallel is False
    match choice:
        case "none":
            return offered([])
        case None | "auto":
            return offered(found, one_at_a_time=one)
        case "required":
            return offered(found, demanded="", one_at_a_time=one)
        case {"type": "function" | "custom" as kind}:
            # Chat completions have the name one level deeper.
            named = cast("dict[str, Any]", choice)
            inner = named.get(kind)
            name = cast("dict[str, Any]", inner).get("name") if isinstance(inner, dict) else named.get("name")
            if isinstance(name, str) and name:
                return offered(found, demanded=name, one_at_a_time=one)
        case _:
            pass
    message = 'tool_choice must be "none", "auto", "required", or name a function or a custom tool'
    raise Refusal(Code.UNSUPPORTED, message, param="tool_choice")
