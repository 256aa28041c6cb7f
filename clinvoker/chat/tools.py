"""The tools that a client offers with a request, and how it wants them used."""

import re
from collections.abc import Sequence

from msgspec import Struct

from actors.errors import Code, Refusal
from actors.messages import Tool
from clinvoker.flows import Parallel

_NAME = re.compile(r"[A-Za-z0-9_-]{1,128}")


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


def offered(
    tools: Sequence[tuple[str, Tool]], *, demanded: str | None = None, one_at_a_time: bool = False
) -> Offered:
    """Return the tools that a request offers, each with the field that names it. Raises `Refusal` naming one at fault."""
    known: set[str] = set()
    for where, tool in tools:
        if not _NAME.fullmatch(tool.name):
            message = f"{where} must be 1 to 128 letters, digits, underscores and hyphens"
            raise Refusal(Code.INVALID_REQUEST, message, param=where)
        if tool.name in known:
            raise Refusal(Code.INVALID_REQUEST, f"{where}: there are two tools {tool.name!r}", param=where)
        known.add(tool.name)
    if demanded and demanded not in known:
        message = f"tool_choice names {demanded!r}, which is none of the tools"
        raise Refusal(Code.INVALID_REQUEST, message, param="tool_choice")
    if demanded is not None and not known:
        raise Refusal(
            Code.INVALID_REQUEST, "tool_choice asks for a tool, and there is none", param="tool_choice"
        )
    return Offered(tuple(tool for _, tool in tools), demanded, one_at_a_time)


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
