"""The Model Context Protocol, as far as tools need it (modelcontextprotocol.io, 2025-11-25; older versions differ in nothing here)."""

from typing import Any

import msgspec
from msgspec import Raw, Struct

from actors.driver import CallTool
from actors.messages import Tool, ToolAnswer

NAME = "clinvoker"
"""The server's name, by which agents tell its tools from those of others."""

VERSION = "2025-11-25"

ELSEWHERE = "\n(It goes on in the description of the input.)"

DESCRIPTION = 2000
"""Characters of a tool's description; claude 2.1.330 cuts off what is beyond 4096 (UTF-16 units), but nothing of a schema."""

_NULL = Raw(b"null")
_METHOD_NOT_FOUND = -32601
_INVALID_PARAMS = -32602


class Message(Struct):
    """A request, or without an `id` a notification."""

    method: str = ""
    id: int | str | None = None
    params: Raw = _NULL


class _Initialize(Struct, rename="camel"):
    protocol_version: str = VERSION


class _Call(Struct):
    name: str
    arguments: Any = None


read_message = msgspec.json.Decoder(Message).decode


class McpServer:
    """A server of these tools."""

    def __init__(self, tools: tuple[Tool, ...]) -> None:
        self._tools = tools

    async def answer(self, message: Message, call: CallTool) -> dict[str, Any] | None:
        """Answer a message; None for one that wants no answer. A call waits for the client."""
        if message.id is None:
            return None
        try:
            result = await self._result(message, call)
        except msgspec.DecodeError as error:
            return _error(message, _INVALID_PARAMS, str(error))
        if result is None:
            return _error(message, _METHOD_NOT_FOUND, f"Method not found: {message.method}")
        return {"jsonrpc": "2.0", "id": message.id, "result": result}

    async def _result(self, message: Message, call: CallTool) -> dict[str, Any] | None:
        match message.method:
            case "initialize":
                asked = msgspec.json.decode(message.params, type=_Initialize)
                return {
                    "protocolVersion": asked.protocol_version,
                    "capabilities": {"tools": {}},
                    "serverInfo": {"name": NAME, "version": "1"},
                }
            case "tools/list":
                return {"tools": [_described(tool) for tool in self._tools]}
            case "tools/call":
                told = msgspec.json.decode(message.params, type=_Call)
                return _content(await call(told.name, told.arguments or {}, _number(message)))
            case "ping":
                return {}
            case _:
                return None


def _number(message: Message) -> int:
    """Clients of the protocol number their requests."""
    return message.id if isinstance(message.id, int) else 0


def _described(tool: Tool) -> dict[str, Any]:
    schema = {"type": "object", **tool.schema}
    described, rest = tool.description[:DESCRIPTION], tool.description[DESCRIPTION:]
    if rest:
        described += ELSEWHERE
        schema["description"] = f"{rest}\n\n{schema.get('description', '')}".rstrip()
    return {
        "name": tool.name,
        "description": described,
        "inputSchema": schema,
        # claude 2.1.330 would call one that may write after the other, and have its model look for many tools first.
        "annotations": {"readOnlyHint": True},
        "_meta": {"anthropic/alwaysLoad": True},
    }


def _content(answer: ToolAnswer) -> dict[str, Any]:
    pictures = [{"type": "image", "data": each.data, "mimeType": each.media_type} for each in answer.images]
    return {"content": [{"type": "text", "text": answer.output}, *pictures], "isError": answer.is_error}


def _error(message: Message, code: int, text: str) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": message.id, "error": {"code": code, "message": text}}
