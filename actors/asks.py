"""What a turn asks of whoever started it, while it goes on."""

from collections.abc import Awaitable, Callable
from typing import Any

from actors.driver import CallTool
from actors.messages import Event, Leave, Options, Permission, ToolAnswer

Announce = Callable[[Event], None]
"""Puts an event among those of the turn, in its place."""

Approve = Callable[[Permission, Announce], Awaitable[Leave]]
"""Whoever decides when the agent asks leave, and tells the caller about it or not."""

CallClient = Callable[[str, Any, int, Announce], Awaitable[ToolAnswer]]
"""As `CallTool`, and where the call is told of."""


def tool_caller(options: Options, client: CallClient | None, announce: Announce) -> CallTool:
    """What a link calls the client's tools by; a call that nobody can answer is answered with an error."""
    tools = {tool.name: tool for tool in options.tools}

    async def call(name: str, given: Any, number: int) -> ToolAnswer:  # noqa: ANN401 - whatever the agent gives
        tool = tools.get(name)
        if tool is None:
            return ToolAnswer("", f"there is no tool {name}", is_error=True)
        if client is None:
            return ToolAnswer("", "nobody is there to run the tool: the client takes no calls", is_error=True)
        if tool.freeform:
            text = given.get("input") if isinstance(given, dict) else given  # pyright: ignore[reportUnknownVariableType, reportUnknownMemberType]
            given = text if isinstance(text, str) else ""
        return await client(name, given, number, announce)

    return call
