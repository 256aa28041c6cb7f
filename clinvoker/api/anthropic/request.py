"""What a caller of the Messages API asks, read leniently (platform.claude.com's reference).

Unknown fields are ignored, as clients add new ones monthly, and a block is one shape for all types: what a block of an
unknown type means is decided where it is read.
"""

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

Positive = Annotated[int, Meta(ge=1, le=2**53)]


class Source(Struct, frozen=True):
    """Where a picture or a document comes from."""

    type: str = ""
    media_type: str = ""
    data: str = ""
    url: str = ""


class Block(Struct, frozen=True):
    """A content block of any type."""

    type: str
    text: str = ""
    source: Source | str | None = None
    """Of a `search_result`, its name."""
    title: Any = None
    id: str = ""
    name: str = ""
    input: Any = None
    tool_use_id: str = ""
    content: Any = None
    is_error: bool | None = None


Content = str | list[Block]


class Said(Struct, frozen=True):
    """A message of the conversation. `system` may stand among them since 2026-10-21."""

    role: Literal["user", "assistant", "system"]
    content: Content


class Tool(Struct, frozen=True):
    """A tool that the client offers; without a type, or of type `custom`, the client's own."""

    name: str = ""
    type: str | None = None
    description: Any = None
    input_schema: Any = None


class ToolChoice(Struct, frozen=True):
    """Which tool is to be used."""

    type: str = "auto"
    name: str = ""
    disable_parallel_tool_use: bool | None = None


class OutputFormat(Struct, frozen=True):
    """How the answer's text must look."""

    type: str = ""
    schema: dict[str, Any] | None = None


class OutputConfig(Struct, frozen=True):
    """Settings of the answer."""

    format: OutputFormat | None = None


class ThinkingConfig(Struct, frozen=True):
    """Whether the caller wants to see the model think."""

    type: str = ""
    display: str | None = None


class AnyBlock(Struct, frozen=True):
    """A content block of which nothing is known: what it weighs can be told all the same."""

    type: Any = None
    text: Any = None
    source: Any = None
    title: Any = None
    input: Any = None
    content: Any = None


AnyContent = str | list[AnyBlock]


class Counted(Struct, frozen=True):
    """A message whose tokens are counted."""

    role: Literal["user", "assistant", "system"]
    content: AnyContent


class CountRequest(Struct, frozen=True):
    """`POST /messages/count_tokens`."""

    model: Annotated[str, Meta(min_length=1, max_length=256)]
    messages: Annotated[list[Counted], Meta(min_length=1)]
    system: AnyContent | None = None
    tools: list[Tool] | None = None


class MessagesRequest(Struct, frozen=True):
    """`POST /messages`."""

    model: Annotated[str, Meta(min_length=1, max_length=256)]
    max_tokens: Positive
    messages: Annotated[list[Said], Meta(min_length=1)]
    system: Content | None = None
    stream: bool | None = None
    stop_sequences: list[str] | None = None
    tools: list[Tool] | None = None
    tool_choice: ToolChoice | None = None
    output_config: OutputConfig | None = None
    output_format: OutputFormat | None = None
    """Where the beta had it."""
    thinking: ThinkingConfig | None = None
    metadata: Any = None
    session_id: Any = None
    prompt_cache_key: Any = None
    conversation: Any = None
    """By these four, clients name their conversations (`chat.sources`)."""
