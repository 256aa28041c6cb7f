"""What codex asks of us in the middle of a turn, as a permission to be decided and the answer to each decision."""

from collections.abc import Callable, Mapping
from typing import Any, cast

import msgspec
from msgspec import Struct

from actors.messages import Leave, Permission
from clinvoker.backends.codex_options import PREFIX
from clinvoker.backends.codex_wire import Asked
from clinvoker.backends.jsonrpc import Call

_decode = msgspec.json.Decoder(Asked).decode


class Question(Struct, frozen=True):
    """A permission, and what to answer for each way of deciding it."""

    thread_id: str
    item_id: str
    permission: Permission
    answers: Mapping[Leave, object]


class Reply(Struct, frozen=True):
    """An answer that needs no decision."""

    thread_id: str
    result: object


class ToolCall(Struct, frozen=True):
    """A call of a tool that we gave the thread (`dynamicTools`)."""

    thread_id: str
    name: str
    given: object


Request = Question | Reply | ToolCall


def understand(call: Call) -> Request | None:
    """Read a request of codex; None when it is nothing that we know. Raises `DecodeError`."""
    read = _READERS.get(call.method)
    return None if read is None else read(call, _decode(call.params))


def _command(call: Call, asked: Asked) -> Question:
    given = {"command": asked.command, "cwd": asked.cwd, "reason": asked.reason}
    # What is not offered is not to be answered; an older codex names no choices.
    lasting = asked.available_decisions is None or "acceptForSession" in asked.available_decisions
    return _question(call, asked, "command_execution", given, _decisions(lasting=lasting))


def _change(call: Call, asked: Asked) -> Question:
    # The changes themselves came with the item, which has the same id.
    return _question(call, asked, "file_change", {"reason": asked.reason}, _decisions(lasting=True))


def _permissions(call: Call, asked: Asked) -> Question:
    given = {"permissions": asked.permissions, "cwd": asked.cwd, "reason": asked.reason}
    wanted = {name: value for name, value in (asked.permissions or {}).items() if value is not None}
    answers: dict[Leave, object] = {
        "allow": {"permissions": wanted, "scope": "turn"},
        "allow_always": {"permissions": wanted, "scope": "session"},
        "deny": {"permissions": {}, "scope": "turn"},
    }
    return _question(call, asked, "request_permissions", given, answers)


def _questions(_call: Call, asked: Asked) -> Reply:
    """Answer nothing: nobody is there to be asked, and the model goes on without."""
    return Reply(asked.thread_id, {"answers": {}})


def _tool_call(_call: Call, asked: Asked) -> ToolCall:
    return ToolCall(asked.thread_id, asked.tool.removeprefix(PREFIX), asked.arguments)


def _elicitation(call: Call, asked: Asked) -> Question | Reply:
    """Read an MCP server's request: leave to call one of its tools, or else a form that nobody is there to fill in."""
    match asked.meta:
        case {"codex_approval_kind": "mcp_tool_call", **meta}:
            answers: dict[Leave, object] = {"allow": _accept(None), "deny": {"action": "decline"}}
            if "session" in _listed(meta.get("persist")):
                answers["allow_always"] = _accept({"persist": "session"})
            given = {"message": asked.message, "arguments": meta.get("tool_params")}
            return _question(call, asked, f"mcp__{asked.server_name}", given, answers)
        case _:
            return Reply(asked.thread_id, {"action": "decline"})


def _question(
    call: Call, asked: Asked, tool: str, given: dict[str, Any], answers: Mapping[Leave, object]
) -> Question:
    shown = {name: value for name, value in given.items() if value is not None}
    # One item may ask more than once, so its id alone would not do.
    name = f"{asked.item_id}:{call.id}" if asked.item_id else str(call.id)
    return Question(asked.thread_id, asked.item_id, Permission(name, tool, shown, tuple(answers)), answers)


def _decisions(*, lasting: bool) -> Mapping[Leave, object]:
    """Answer an approval. `decline` lets the turn go on, `cancel` would end it."""
    always: Mapping[Leave, object] = {"allow_always": {"decision": "acceptForSession"}} if lasting else {}
    return {"allow": {"decision": "accept"}, **always, "deny": {"decision": "decline"}}


def _accept(meta: object) -> object:
    return {"action": "accept", "content": {}, "_meta": meta}


def _listed(value: object) -> list[object]:
    """Take one word, or several."""
    return cast("list[object]", value) if isinstance(value, list) else [value]


_READERS: Mapping[str, Callable[[Call, Asked], Request]] = {
    "item/commandExecution/requestApproval": _command,
    "item/fileChange/requestApproval": _change,
    "item/permissions/requestApproval": _permissions,
    "item/tool/call": _tool_call,
    "item/tool/requestUserInput": _questions,
    "mcpServer/elicitation/request": _elicitation,
}
