"""The tool calls of one turn: an agent's updates about them become one `ToolUse` and one `ToolResult` each.

Agents differ in what they send and when. opencode 1.18.33 announces a call before it knows its input; gemini 0.61.0 says
nothing of a call that asks leave but the request itself, nothing of one that was refused, and never a tool's name.
"""

import difflib
import re
from collections.abc import Collection
from typing import Any

import msgspec
import trio
from msgspec import Struct
from msgspec.structs import replace

from actors.change import Change
from actors.messages import ToolAnswer, ToolResult, ToolUse
from actors.outbox import Outbox
from clinvoker.backends.acp_wire import ToolCall, ToolContent

_NAME = re.compile(r"\w{1,64}")
# gemini 0.61.0 makes its ids of the tool's name: run_shell_command__fc_5_0.
_NAME_IN_ID = re.compile(r"([A-Za-z]\w*?)__")
_DIFF_LIMIT = 64 * 1024
TOLD_S = 5.0
"""How long a call of the client's tool waits for the agent to tell of it; not every agent does."""

DENIED = "Permission was denied."


class _Tool(Struct):
    call: ToolCall
    name: str
    is_clients: bool
    is_used: bool = False
    is_done: bool = False


class Tools:
    """The tool calls so far."""

    def __init__(self, out: Outbox, client: Collection[str] = ()) -> None:
        self._out = out
        self._client = client
        """What agents call the client's tools: it is told of those when they reach it."""
        self._tools: dict[str, _Tool] = {}
        self._announced = 0
        self._called = 0
        """Of the client's tools: the calls that the agent has told of, and those that have reached us."""
        self._changed = Change()
        self.refused: list[str] = []
        """The names of those that were refused leave."""

    def update(self, news: ToolCall) -> None:
        """Take what the agent says of a call."""
        tool = self._known(news)
        if tool.is_clients:
            return
        if tool.call.status not in ("pending", None):
            self._use(tool)
        if tool.call.status in ("completed", "failed"):
            self._finish(tool, _output(tool.call), is_error=tool.call.status == "failed")

    def is_clients(self, news: ToolCall) -> bool:
        """Whether the call is one of the client's tools."""
        return self._known(news).is_clients

    async def called(self) -> None:
        """Take a call of the client's tool, which comes a way of its own: wait for what the agent said before it."""
        self._called += 1
        turn = self._called
        with trio.move_on_after(TOLD_S):
            await self._changed.wait_until(lambda: self._announced >= turn)

    def asked(self, news: ToolCall) -> tuple[str, Any]:
        """Take the call that the agent asks leave for; return the tool's name and what it is about to do."""
        tool = self._known(news)
        self._use(tool)
        return tool.name, _input(news) if news.raw_input else _input(tool.call)

    def denied(self, tool_call_id: str) -> None:
        """Report a call that was refused leave."""
        tool = self._tools[tool_call_id]
        self.refused.append(tool.name)
        self._finish(tool, DENIED, is_error=True)

    def _known(self, news: ToolCall) -> _Tool:
        tool = self._tools.get(news.tool_call_id)
        if tool is None:
            tool = self._tools[news.tool_call_id] = _Tool(news, _name(news), _is_one_of(news, self._client))
            if tool.is_clients:
                self._announced += 1
                self._changed.announce()
        else:
            for field in ("status", "title", "content", "locations", "raw_input", "raw_output"):
                value = getattr(news, field)
                if value is not None:
                    setattr(tool.call, field, value)
        return tool

    def _use(self, tool: _Tool) -> None:
        if not tool.is_used:
            tool.is_used = True
            self._out.put(ToolUse(tool.call.tool_call_id, tool.name, _input(tool.call)))

    def _finish(self, tool: _Tool, output: str, *, is_error: bool) -> None:
        if not tool.is_done:
            tool.is_done = True
            self._out.put(ToolResult(tool.call.tool_call_id, output, is_error))


def guarded(answer: ToolAnswer) -> ToolAnswer:
    """What the client's tool gave, for gemini 0.61.0: it takes a text that is JSON for an object, and fails if it is none."""
    try:
        is_object = isinstance(msgspec.json.decode(answer.output.encode("utf-8", "replace")), dict)
    except (msgspec.DecodeError, RecursionError):
        return answer
    return answer if is_object else replace(answer, output=f"\u200b{answer.output}")


def _is_one_of(call: ToolCall, names: Collection[str]) -> bool:
    """Tell a tool of such a name: it is in gemini's id of the call, and opencode's title (as above)."""
    return call.title in names or any(call.tool_call_id.startswith(f"{name}__") for name in names)


def _name(call: ToolCall) -> str:
    """Return the best name there is: the protocol has a title for people, and a kind."""
    if named := _NAME_IN_ID.match(call.tool_call_id):
        return named[1]
    title = call.title or ""
    if _NAME.fullmatch(title):
        return title
    return call.kind if call.kind and call.kind != "other" else title or "tool"


def _input(call: ToolCall) -> Any:  # noqa: ANN401 - whatever JSON the agent gave
    """Return the tool's input; an agent that does not tell it tells people what the tool will do."""
    if call.raw_input:
        return call.raw_input
    told: dict[str, Any] = {"title": call.title or ""}
    if call.locations:
        told["paths"] = [location.path for location in call.locations]
    if call.status != "completed" and (content := _shown(call.content)):
        told["content"] = content
    return told


def _output(call: ToolCall) -> str:
    shown = _shown(call.content)
    if shown or call.raw_output is None:
        return shown
    return (
        call.raw_output if isinstance(call.raw_output, str) else msgspec.json.encode(call.raw_output).decode()
    )


def _shown(content: list[ToolContent] | None) -> str:
    return "\n".join(filter(None, map(_piece, content or ())))


def _piece(content: ToolContent) -> str:
    if content.type == "diff":
        return _diff(content.path, content.old_text or "", content.new_text or "")
    return content.content.text if content.content else ""


def _diff(path: str, old: str, new: str) -> str:
    """Return a change as a unified diff; a large one would take too long to compute, and nobody reads it."""
    if len(old) + len(new) > _DIFF_LIMIT:
        return f"{path}: {len(old)} characters became {len(new)}"
    lines = difflib.unified_diff(old.splitlines(), new.splitlines(), path, path, lineterm="")
    return "\n".join(lines)
