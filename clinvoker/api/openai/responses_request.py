"""What `POST /responses` may say, and the chat in it."""

from contextlib import suppress
from typing import Annotated, Any, Literal, cast

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from actors.errors import Code, Refusal
from clinvoker.api.openai.requests import CallMade, ChatMessage, Function, Naming, Part, Positive, Role
from clinvoker.api.openai.tools import ResponseTool
from clinvoker.chat.structured import check_schema

ROLES = frozenset({"system", "developer", "user", "assistant"})


class Item(Struct, frozen=True):
    """An item of the input: a message, or what became of a tool."""

    type: str = "message"
    id: str = ""
    role: str = ""
    content: str | list[Part] | None = None
    name: str = ""
    call_id: str = ""
    arguments: str = ""
    input: str = ""
    output: Any = ""
    tools: list[ResponseTool] | None = None


class Format(Struct, frozen=True):
    """What an answer must be; the answer says it again, for clients read it by that."""

    type: Literal["text", "json_object", "json_schema"] = "text"
    name: str | UnsetType | None = UNSET
    description: str | UnsetType | None = UNSET
    schema: dict[str, Any] | UnsetType | None = UNSET
    strict: bool | UnsetType | None = UNSET


class TextConfig(Struct, frozen=True):
    """How the text is to be."""

    format: Format | None = None


class ResponsesRequest(Naming, frozen=True, kw_only=True):
    """`POST /responses`."""

    input: str | Annotated[list[Item], Meta(min_length=1)]
    instructions: str | None = None
    previous_response_id: str | None = None
    metadata: dict[str, str] | None = None
    store: bool | None = True
    prompt: Any = None
    background: bool | None = False
    max_output_tokens: Positive | None = None
    text: TextConfig | None = None
    tools: list[ResponseTool] | None = None
    tool_choice: Any = None
    parallel_tool_calls: bool | None = None


def messages_of(told: ResponsesRequest) -> list[ChatMessage]:
    """The input as messages. Raises `Refusal` naming an item that is none."""
    if told.prompt is not None:
        raise Refusal(Code.UNSUPPORTED, "prompt: no prompts are kept here", param="prompt")
    messages: list[ChatMessage] = []
    if told.instructions:
        messages.append(ChatMessage("system", told.instructions))
    if isinstance(told.input, str):
        return [*messages, ChatMessage("user", told.input)]
    for index, item in enumerate(told.input):
        match item.type:
            case "message" if item.role in ROLES:
                messages.append(ChatMessage(cast("Role", item.role), item.content))
            case "function_call" | "custom_tool_call":
                call = CallMade(item.call_id, Function(item.name, item.arguments or item.input))
                messages.append(ChatMessage("assistant", tool_calls=[call]))
            case "function_call_output" | "custom_tool_call_output":
                messages.append(ChatMessage("tool", _output(item.output), tool_call_id=item.call_id))
            case "message":
                raise Refusal(
                    Code.INVALID_REQUEST, f"input[{index}] has no role", param=f"input[{index}].role"
                )
            case _:
                pass  # reasoning, and what else a client keeps for the model alone
    return messages


def _output(output: Any) -> str | list[Part]:  # noqa: ANN401 - what a tool gave
    """A text, or its parts; anything else is told as the JSON that it is."""
    if isinstance(output, str):
        return output
    with suppress(msgspec.ValidationError):
        return msgspec.convert(output, list[Part])
    return msgspec.json.encode(output).decode()


def tools_of(told: ResponsesRequest) -> dict[str, list[ResponseTool]]:
    """The tools, by the fields that they are in: Codex has them among the input, if its model calls them from code."""
    tools = {"tools": told.tools or []}
    if not isinstance(told.input, str):
        for index, item in enumerate(told.input):
            if item.type == "additional_tools":  # all of them, each time
                tools = {"tools": told.tools or [], f"input[{index}].tools": item.tools or []}
    return tools


def schema_of(told: ResponsesRequest) -> dict[str, Any] | None:
    """The schema that the answer must satisfy. Raises `Refusal` if it is none."""
    wanted = told.text.format if told.text is not None else None
    if wanted is None or wanted.type == "text":
        return None
    if wanted.type == "json_object":
        return {"type": "object"}
    if not isinstance(wanted.schema, dict):
        raise Refusal(Code.INVALID_REQUEST, "text.format needs a schema", param="text.format.schema")
    check_schema(wanted.schema, "text.format.schema")
    return wanted.schema
