"""The items of a codex turn that are tools, in the words of our events (names as `codex exec --json` has them)."""

import json
from typing import Any, cast

from clinvoker.backends.codex_options import PREFIX
from clinvoker.backends.codex_wire import Item

_NAMES = {
    "commandExecution": "command_execution",
    "fileChange": "file_change",
    "mcpToolCall": "mcp_tool_call",
    "dynamicToolCall": "dynamic_tool_call",
    "collabAgentToolCall": "collab_agent_tool_call",
    "webSearch": "web_search",
    "imageView": "image_view",
    "imageGeneration": "image_generation",
    "sleep": "sleep",
}

_INPUTS = (
    *("command", "cwd", "changes", "arguments", "prompt"),
    *("query", "action", "path", "revised_prompt", "duration_ms"),
)

_BAD = frozenset({"failed", "declined"})


def tool_name(item: Item) -> str:
    """Name the tool; empty for what is none."""
    match item.type:
        case "mcpToolCall":
            return f"mcp__{item.server}__{item.tool}"
        case "dynamicToolCall" if str(item.tool).startswith(PREFIX):
            return ""  # the client's, which is told of it when it is called
        case "dynamicToolCall":
            return f"{item.namespace}.{item.tool}" if item.namespace else str(item.tool)
        case "collabAgentToolCall":
            return str(item.tool)
        case _:
            return _NAMES.get(item.type, "")


def tool_input(item: Item) -> Any:  # noqa: ANN401 - JSON, whatever the tool takes
    """Give what the tool was called with; empty while it is not known yet."""
    if item.type in {"mcpToolCall", "dynamicToolCall"}:
        return item.arguments
    given = {name: getattr(item, name) for name in _INPUTS}
    if item.type in {"commandExecution", "fileChange"}:
        del given["duration_ms"]  # how long it took, not what was asked
    return {name: value for name, value in given.items() if value not in (None, "")}


def tool_output(item: Item) -> str:
    """Give what came of it, as text."""
    if item.status == "declined":
        return "declined"
    if item.type == "commandExecution":
        return item.aggregated_output or ""
    if item.type == "fileChange":
        return _text([change.get("diff", "") for change in item.changes or []])
    return _text(item.error or item.result or item.content_items or item.results)


def is_bad(item: Item) -> bool:
    """Tell whether it failed, or was refused leave."""
    return item.status in _BAD or item.success is False or bool(item.exit_code) or bool(item.error)


def _text(value: object) -> str:
    """Join the texts of content parts, MCP's and the like; anything else as JSON."""
    match value:
        case None:
            return ""
        case str(text) | {"text": str(text)} | {"message": str(text)}:
            return text
        case {"content": list()}:
            return _text(cast("dict[str, object]", value)["content"])
        case list():
            return "\n".join(_text(part) for part in cast("list[object]", value))
        case _:
            return json.dumps(value, ensure_ascii=False)
