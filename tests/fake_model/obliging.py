"""Obliging: without a directive, a tool is called that the user asks for, as any real model would.

Only tools of clinvoker's clients count, which agents offer with a prefix before their names, and none of an agent's own.
They are asked for by clinvoker's own demand that one be called, or by name in the last line of what was said: whole, or
all but the verb (`get_weather`: the weather).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from tests.fake_model.conversation import Conversation
from tests.fake_model.directives import Directives, ToolCall

_PREFIX = re.compile(
    r"\A(mcp__clinvoker__|mcp_clinvoker_|clinvoker_|client_)"
)  # claude, gemini, opencode, codex
_DEMAND = re.compile(r"\n\nYou must call (?:your tool|one of your tools) ([\w, -]+) before you answer\.")
_NUMBER = re.compile(r"(?<![\w.])-?\d+(?:\.\d+)?(?!\w)")
_QUOTED = re.compile(r"(?<!\w)['\"](.+?)['\"](?!\w)")


def call(talk: Conversation, asked: Directives) -> ToolCall | None:
    """Give the call that the user asks for without a directive; one that says what to give has it given to the tool."""
    if asked != Directives(structured=asked.structured):
        return None
    offered = {bare: name for name in talk.tools if (bare := _PREFIX.sub("", name)) != name}
    demand = _DEMAND.search(talk.text)
    said = talk.text[: demand.start()] if demand else talk.text
    line = said.strip().rpartition("\n")[2]
    wanted = [bare for bare in offered if _is_named(bare, line)]
    if demand:
        demanded = [bare for bare in demand[1].split(", ") if bare in offered]
        wanted = [bare for bare in demanded if bare in wanted] or demanded
    if not wanted:
        return None
    name = offered[wanted[0]]
    given = asked.structured if demand else None
    return ToolCall(name, given or _Filled(line).value(talk.tools[name]))


def _is_named(bare: str, line: str) -> bool:
    _, _, noun = bare.partition("_")
    words = "[ _]".join(noun.split("_"))
    return bool(re.search(rf"\b{re.escape(bare)}\b", line) or (noun and re.search(rf"\b{words}\b", line)))


class _Filled:
    """Values for a JSON Schema: numbers and quotations in the order in which they were said, then defaults."""

    def __init__(self, line: str) -> None:
        self._line = line
        self._numbers: Iterator[str] = iter(_NUMBER.findall(line))
        self._quotations: Iterator[str] = iter(_QUOTED.findall(line))

    def value(self, schema: dict[str, Any]) -> Any:
        """Make the value that a schema wants; of an object's fields, those that it must have."""
        if "default" in schema or "enum" in schema:
            return schema["default"] if "default" in schema else schema["enum"][0]
        match schema.get("type"):
            case "object":
                fields = schema.get("properties", {})
                return {name: self.value(fields.get(name, {})) for name in schema.get("required", ())}
            case "integer" | "number" as kind:
                number = float(next(self._numbers, "0"))
                return int(number) if kind == "integer" or number.is_integer() else number
            case "boolean" | "array" | "null" as kind:
                return {"boolean": False, "array": [], "null": None}[kind]
            case _:
                return next(self._quotations, self._line)
