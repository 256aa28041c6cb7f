"""What a chat completion looks like, whole and in chunks; every field that the official SDKs' types need."""

from collections.abc import Iterator
from typing import Any, Literal

import msgspec
from msgspec import UNSET, Struct, UnsetType

from actors.messages import Complete, ToolUse, Usage
from clinvoker.api.frames import unbroken
from clinvoker.api.openai.tools import arguments_of, pieces
from clinvoker.chat.held import TOOL_USE

FinishReason = Literal["stop", "length", "content_filter", "tool_calls"]

DONE = b"data: [DONE]\n\n"


class PromptDetails(Struct, frozen=True):
    """Of the prompt's tokens."""

    cached_tokens: int = 0
    audio_tokens: int = 0


class CompletionDetails(Struct, frozen=True):
    """Of the answer's tokens."""

    reasoning_tokens: int = 0
    audio_tokens: int = 0
    accepted_prediction_tokens: int = 0
    rejected_prediction_tokens: int = 0


class UsageInfo(Struct, frozen=True):
    """What an answer took."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptDetails
    completion_tokens_details: CompletionDetails


class FunctionCall(Struct, frozen=True, omit_defaults=True):
    """What a function of the client's is called with; in a chunk, a piece of it."""

    arguments: str
    name: str | UnsetType = UNSET


class CustomCall(Struct, frozen=True, omit_defaults=True):
    """The text that a tool of the client's is called with, or a piece of it."""

    input: str
    name: str | UnsetType = UNSET


class ToolCall(Struct, frozen=True, omit_defaults=True):
    """A call of a tool of the client's; in a chunk, a piece of one."""

    index: int | UnsetType = UNSET
    id: str | UnsetType = UNSET
    type: Literal["function", "custom"] | UnsetType = UNSET
    function: FunctionCall | UnsetType = UNSET
    custom: CustomCall | UnsetType = UNSET


class AnswerMessage(Struct, frozen=True):
    """The assistant's message."""

    content: str | None
    role: Literal["assistant"] = "assistant"
    refusal: None = None
    annotations: tuple[()] = ()
    reasoning_content: str | UnsetType = UNSET
    tool_calls: list[ToolCall] | UnsetType = UNSET


class Choice(Struct, frozen=True):
    """One of the answers."""

    index: int
    message: AnswerMessage
    finish_reason: FinishReason
    logprobs: None = None


class ChatCompletion(Struct, frozen=True):
    """`POST /chat/completions`, not streamed."""

    id: str
    created: int
    model: str
    choices: list[Choice]
    usage: UsageInfo
    object: Literal["chat.completion"] = "chat.completion"
    service_tier: None = None
    system_fingerprint: None = None


class Delta(Struct, frozen=True, omit_defaults=True):
    """What is new of an answer."""

    content: str | UnsetType = UNSET
    role: str | UnsetType = UNSET
    reasoning_content: str | UnsetType = UNSET
    tool_calls: list[ToolCall] | UnsetType = UNSET


class ChunkChoice(Struct, frozen=True):
    """What is new of one of the answers."""

    index: int
    delta: Delta
    finish_reason: FinishReason | None = None
    logprobs: None = None


class Chunk(Struct, frozen=True):
    """A piece of a streamed chat completion. `usage` is there only where it was asked for."""

    id: str
    created: int
    model: str
    choices: list[ChunkChoice]
    object: Literal["chat.completion.chunk"] = "chat.completion.chunk"
    usage: UsageInfo | UnsetType | None = UNSET
    system_fingerprint: None = None


def usage_of(*usages: Usage) -> UsageInfo:
    """What the turns took together."""
    prompt = sum(usage.input_tokens for usage in usages)
    completion = sum(usage.output_tokens for usage in usages)
    return UsageInfo(
        prompt,
        completion,
        prompt + completion,
        PromptDetails(sum(usage.cached_tokens for usage in usages)),
        CompletionDetails(sum(usage.reasoning_tokens for usage in usages)),
    )


def finish_reason(complete: Complete) -> FinishReason:
    """Why an answer ended, in OpenAI's words."""
    return _REASONS.get(complete.stop_reason, "stop")


def call_of(use: ToolUse) -> ToolCall:
    """A call, whole."""
    if isinstance(use.input, str):
        return ToolCall(id=use.id, type="custom", custom=CustomCall(use.input, use.name))
    called = FunctionCall(arguments_of(use.input), use.name)
    return ToolCall(id=use.id, type="function", function=called)


def call_pieces(index: int, use: ToolUse) -> Iterator[ToolCall]:
    """A call in the pieces that a stream has: who is called first, then what with."""
    if isinstance(use.input, str):
        yield ToolCall(index, use.id, "custom", custom=CustomCall("", use.name))
        for piece in pieces(use.input):
            yield ToolCall(index, custom=CustomCall(piece))
        return
    yield ToolCall(index, use.id, "function", FunctionCall("", use.name))
    for piece in pieces(arguments_of(use.input)):
        yield ToolCall(index, function=FunctionCall(piece))


def frame(value: Any) -> bytes:  # noqa: ANN401 - whatever has a JSON form
    """An event of a stream: no `id:`, which makes the SDKs' parsers stumble over what comes after a comment."""
    return unbroken(b"data: %b\n\n" % _encoder.encode(value))


_encoder = msgspec.json.Encoder()
_REASONS: dict[str, FinishReason] = {
    "max_tokens": "length",
    "max_turns": "length",
    "refusal": "content_filter",
    TOOL_USE: "tool_calls",
}
