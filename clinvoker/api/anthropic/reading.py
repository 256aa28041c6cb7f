"""From a request of the Messages API to a chat: what of its blocks an agent is told, and what is refused by name."""

from collections.abc import Iterator
from typing import Any

import msgspec
from msgspec import Struct

from actors.errors import Code, Refusal
from actors.messages import Image, Tool, ToolAnswer
from clinvoker.api.anthropic.request import Block, Content, MessagesRequest, OutputFormat, Source, ToolChoice
from clinvoker.api.anthropic.request import Tool as ClientTool
from clinvoker.api.pictures import picture
from clinvoker.api.requests import check_text
from clinvoker.chat.conversation import Chat, Role, Said, beside, later, make_chat
from clinvoker.chat.structured import check_schema
from clinvoker.chat.tools import NO_INPUT, Named, Offered, offered

_OF_A_RESULT = frozenset({"text", "image", "document", "search_result"})
"""What a tool's result is made of; the API knows no other parts."""

_UNTOLD = frozenset({"thinking", "redacted_thinking"})
"""The agent knows itself what it thought."""


class _Told(Struct):
    """What one message comes to."""

    texts: list[str]
    images: list[Image]
    results: list[ToolAnswer]
    beside: list[str]
    """Texts that are no part of a result."""
    beside_images: list[Image]

    def as_said(self, role: Role) -> Said:
        """All of it in words, and the results as such."""
        results = beside(tuple(self.results), "\n\n".join(self.beside), tuple(self.beside_images))
        return Said(role, "\n\n".join(self.texts), tuple(self.images), results)


def read_chat(asked: MessagesRequest) -> Chat:
    """Return the conversation that a request carries. Raises `Refusal` naming what no agent can be told."""
    system = [_text_of(asked.system, "system")] if asked.system is not None else []
    said: list[Said] = []
    for index, message in enumerate(asked.messages):
        place = f"messages[{index}].content"
        if message.role == "system" and not said:
            system.append(_text_of(message.content, place))
        elif message.role == "system":
            said.append(later(_text_of(message.content, place)))
        else:
            said.append(_tell(message.content, place).as_said(message.role))
    return make_chat(system, said)


def read_schema(asked: MessagesRequest) -> dict[str, object] | None:
    """Return the JSON Schema that the answer must satisfy, if one is asked for."""
    config = asked.output_config
    if config is not None and config.format is not None:
        return _schema(config.format, "output_config.format")
    return None if asked.output_format is None else _schema(asked.output_format, "output_format")


def read_tools(asked: MessagesRequest) -> Offered:
    """Return the caller's own tools. Raises `Refusal` naming the field at fault.

    Those of a type of Anthropic's own are left to the agent: it has a shell, an editor and a search itself.
    """
    choice = asked.tool_choice or ToolChoice()
    tools = [
        _named(tool, f"tools[{index}]")
        for index, tool in enumerate(asked.tools or ())
        if tool.type in {None, "custom"}
    ]
    one = bool(choice.disable_parallel_tool_use)
    match choice.type:
        case "none":
            return offered([])
        case "auto":
            return offered(tools, one_at_a_time=one)
        case "any":
            return offered(tools, demanded="", one_at_a_time=one)
        case "tool" if choice.name:
            return offered(tools, demanded=choice.name, one_at_a_time=one)
        case _:
            message = "tool_choice: its type is auto, any, none, or tool with a name"
            raise Refusal(Code.INVALID_REQUEST, message, param="tool_choice")


def _named(tool: ClientTool, place: str) -> Named:
    where = f"{place}.input_schema"
    try:
        schema = msgspec.convert(tool.input_schema, dict[str, Any])
    except msgspec.ValidationError:
        raise Refusal(Code.INVALID_REQUEST, f"{where} must be a JSON Schema", param=where) from None
    described = tool.description if isinstance(tool.description, str) else ""
    return Named(Tool(tool.name, described, schema or NO_INPUT), f"{place}.name", where)


def _schema(wanted: OutputFormat, param: str) -> dict[str, object]:
    if wanted.type != "json_schema" or wanted.schema is None:
        message = f"{param}: only {{type: json_schema, schema}} is known"
        raise Refusal(Code.INVALID_REQUEST, message, param=param)
    check_schema(wanted.schema, f"{param}.schema")
    return wanted.schema


def _text_of(content: Content, place: str) -> str:
    """Return a content that may be text alone."""
    if isinstance(content, str):
        check_text(content, place)
        return content
    told = _tell(content, place)
    if told.images:
        raise Refusal(Code.INVALID_REQUEST, f"{place}: a system prompt is text", param=place)
    return "\n\n".join(told.texts)


def _tell(content: Content, place: str) -> _Told:
    told = _Told([], [], [], [], [])
    if isinstance(content, str):
        check_text(content, place)
        if content:
            told.texts.append(content)
        return told
    for index, block in enumerate(content):
        where = f"{place}[{index}]"
        if block.type == "image":
            shown = _picture(block.source, where)
            told.images.append(shown)
            told.beside_images.append(shown)
        elif block.type == "tool_result":
            result = _result(block, where)
            told.texts.append(
                _labelled("tool_result", block.tool_use_id, result.texts, failed=block.is_error)
            )
            told.images += result.images
            told.results.append(_answer(block, result))
        else:
            for text in _texts(block, where):
                check_text(text, where)
                told.texts.append(text)
                told.beside.append(text)
    return told


def _answer(block: Block, result: _Told) -> ToolAnswer:
    output = "\n\n".join(result.texts)
    return ToolAnswer(block.tool_use_id, output, bool(block.is_error), tuple(result.images))


def _texts(block: Block, where: str) -> Iterator[str]:
    """A block of any other type as text."""
    match block.type:
        case "text":
            if block.text:
                yield block.text
        case "tool_use" | "server_tool_use" | "mcp_tool_use":
            yield _labelled(f"tool_use {block.name}", block.id, [msgspec.json.encode(block.input).decode()])
        case "document" if isinstance(block.source, Source) and block.source.type == "text":
            yield f"<document>\n{block.source.data}\n</document>"
        case "document":
            raise _untellable(where, "a document that is no plain text")
        case "search_result":
            yield _found(block, where)
        case kind if kind in _UNTOLD:
            pass
        case kind if kind.endswith("_tool_result"):
            yield _labelled(kind, block.tool_use_id, [msgspec.json.encode(block.content).decode()])
        case kind:
            raise _untellable(where, f"a block of type {kind!r}")


def _found(block: Block, where: str) -> str:
    """A search result: where it is from, what it is called, and its texts."""
    parts = _parts(block, where, of=frozenset({"text"}))
    named = (part for part in (block.source, block.title) if isinstance(part, str))
    return "\n".join(("<search_result>", *named, *_tell(parts, f"{where}.content").texts, "</search_result>"))


def _result(block: Block, where: str) -> _Told:
    """What a tool of the caller's gave."""
    return _tell(_parts(block, where, of=_OF_A_RESULT), f"{where}.content")


def _parts(block: Block, where: str, *, of: frozenset[str]) -> Content:
    """The content of a block, whose parts may be of these types alone: none has parts that have parts for ever."""
    place = f"{where}.content"
    try:
        parts = msgspec.convert("" if block.content is None else block.content, Content)
    except msgspec.ValidationError as error:
        raise Refusal(Code.INVALID_REQUEST, f"{place}: {error}", param=place) from None
    for index, part in enumerate(parts):
        if isinstance(part, Block) and part.type not in of:
            raise _untellable(f"{place}[{index}]", f"a {part.type!r} within a {block.type!r}")
    return parts


def _picture(source: Source | str | None, where: str) -> Image:
    place = f"{where}.source"
    if not isinstance(source, Source) or source.type != "base64":
        raise _untellable(place, "a picture that is not in the request itself (base64)")
    return picture(source.media_type, source.data, f"{place}.media_type", f"{place}.data")


def _labelled(kind: str, name: str, texts: list[str], *, failed: bool | None = False) -> str:
    """What happened in a conversation and was no text, in words."""
    label = " ".join(word for word in (kind, name, "failed" if failed else "") if word)
    return f"[{label}]\n" + "\n\n".join(texts)


def _untellable(where: str, what: str) -> Refusal:
    return Refusal(Code.UNSUPPORTED, f"{where}: no agent can be told {what}", param=where)
