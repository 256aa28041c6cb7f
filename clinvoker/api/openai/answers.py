"""What a chat completion looks like, whole and in chunks; every field that the official SDKs' types need."""

from typing import Any, Literal

import msgspec
from msgspec import UNSET, Struct, UnsetType

from actors.messages import Complete, Usage
from clinvoker.api.frames import unbroken

FinishReason = Literal["stop", "length", "content_filter"]

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


class AnswerMessage(Struct, frozen=True):
    """The assistant's message."""

    content: str
    role: Literal["assistant"] = "assistant"
    refusal: None = None
    annotations: tuple[()] = ()
    reasoning_content: str | UnsetType = UNSET


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


def frame(value: Any) -> bytes:  # noqa: ANN401 - whatever has a JSON form
    """An event of a stream: no `id:`, which makes the SDKs' parsers stumble over what comes after a comment."""
    return unbroken(b"data: %b\n\n" % _encoder.encode(value))


_encoder = msgspec.json.Encoder()
_REASONS: dict[str, FinishReason] = {
    "max_tokens": "length",
    "max_turns": "length",
    "refusal": "content_filter",
}
