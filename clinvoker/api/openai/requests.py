"""What a chat request may say. Fields that are not here are ignored: clients add new ones all the time."""

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from clinvoker.api.openai.tools import ChatTool

MOST_CHOICES = 16
"""Answers to one request: each is a turn of its own."""

Positive = Annotated[int, Meta(ge=1, le=2**31 - 1)]
Name = Annotated[str, Meta(min_length=1, max_length=256)]
Stops = Annotated[list[str], Meta(max_length=16)]


Role = Literal["system", "developer", "user", "assistant", "tool", "function"]


class ImageUrl(Struct, frozen=True):
    """Where a picture is: a `data:` URL."""

    url: str


class Part(Struct, frozen=True):
    """A part of a message's content."""

    type: str
    text: str = ""
    refusal: str = ""
    image_url: ImageUrl | str | None = None


class Function(Struct, frozen=True):
    """A call that an assistant made of a client's tool."""

    name: str = ""
    arguments: str = ""


class Custom(Struct, frozen=True):
    """A call of a tool that takes a text."""

    name: str = ""
    input: str = ""


class CallMade(Struct, frozen=True):
    """A call in an assistant's message."""

    id: str = ""
    function: Function = Function()
    custom: Custom | None = None


class ChatMessage(Struct, frozen=True):
    """A message of the conversation."""

    role: Role
    content: str | list[Part] | None = None
    refusal: str | None = None
    tool_calls: list[CallMade] | None = None
    function_call: Function | None = None
    """What a call was before it was one of `tool_calls`."""
    tool_call_id: str = ""
    name: str | None = None
    """Of the function, where the role is `function`."""


class StreamOptions(Struct, frozen=True):
    """How to stream."""

    include_usage: bool | None = False


class JsonSchema(Struct, frozen=True):
    """The schema that an answer must satisfy."""

    schema: dict[str, Any] | None = None


class ResponseFormat(Struct, frozen=True):
    """What an answer must be."""

    type: Literal["text", "json_object", "json_schema"] = "text"
    json_schema: JsonSchema | None = None


class Naming(Struct, frozen=True, kw_only=True):
    """What every request has, and the fields that name its conversation."""

    model: Name
    stream: bool | None = False
    metadata: Any = None
    session_id: Any = None
    prompt_cache_key: Any = None
    conversation: Any = None


class Completing(Naming, frozen=True, kw_only=True):
    """What both kinds of completions have."""

    stream_options: StreamOptions | None = None
    n: Annotated[int, Meta(ge=1, le=MOST_CHOICES)] | None = 1
    max_tokens: Positive | None = None
    stop: str | Stops | None = None


class ChatRequest(Completing, frozen=True, kw_only=True):
    """`POST /chat/completions`."""

    messages: Annotated[list[ChatMessage], Meta(min_length=1)]
    max_completion_tokens: Positive | None = None
    modalities: list[str] | None = None
    response_format: ResponseFormat | None = None
    tools: list[ChatTool] | None = None
    functions: list[Any] | None = None
    tool_choice: Any = None
    parallel_tool_calls: bool | None = None


class CompletionRequest(Completing, frozen=True, kw_only=True):
    """`POST /completions`."""

    prompt: str | Annotated[list[str], Meta(min_length=1, max_length=1)]
    suffix: str | None = None
    echo: bool | None = False
