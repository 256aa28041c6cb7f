"""What a response looks like; every field that the official SDKs' types need."""

import re
from typing import Literal

from msgspec import UNSET, Struct

from actors.errors import Code
from actors.messages import Complete, Failed, Usage
from actors.run import Identity
from clinvoker.api.dialects import openai_error
from clinvoker.api.errors import fault_of
from clinvoker.api.openai.responses_request import Format

Status = Literal["queued", "in_progress", "completed", "incomplete", "failed", "cancelled"]

TOLD = frozenset({"context_length_exceeded", "rate_limit_exceeded"})
"""Codes that clients know; all others are `server_error`."""


class InputDetails(Struct, frozen=True):
    """Of the input's tokens."""

    cached_tokens: int = 0
    cache_write_tokens: int = 0


class OutputDetails(Struct, frozen=True):
    """Of the output's tokens."""

    reasoning_tokens: int = 0


class ResponseUsage(Struct, frozen=True):
    """What a response took."""

    input_tokens: int
    input_tokens_details: InputDetails
    output_tokens: int
    output_tokens_details: OutputDetails
    total_tokens: int


class ResponseError(Struct, frozen=True):
    """Why a response failed."""

    code: str
    message: str


class Incomplete(Struct, frozen=True):
    """Why a response is not whole."""

    reason: Literal["max_output_tokens", "content_filter"]


class OutputText(Struct, frozen=True, tag="output_text"):
    """Text of an answer."""

    text: str
    annotations: tuple[()] = ()
    logprobs: tuple[()] = ()


class OutputMessage(Struct, frozen=True, tag="message"):
    """An answer."""

    id: str
    content: tuple[OutputText, ...]
    status: Literal["in_progress", "completed", "incomplete"]
    role: Literal["assistant"] = "assistant"


class SummaryText(Struct, frozen=True, tag="summary_text"):
    """Visible reasoning."""

    text: str


class Reasoning(Struct, frozen=True, tag="reasoning"):
    """What the agent thought."""

    id: str
    summary: tuple[SummaryText, ...]
    status: Literal["in_progress", "completed", "incomplete"]


class FunctionCallItem(Struct, frozen=True, tag="function_call"):
    """A call of a function of the client's."""

    id: str
    call_id: str
    name: str
    arguments: str
    status: Literal["in_progress", "completed"]


class CustomCallItem(Struct, frozen=True, tag="custom_tool_call"):
    """A call of a tool of the client's that takes a text."""

    id: str
    call_id: str
    name: str
    input: str
    status: Literal["in_progress", "completed"]


OutputItem = OutputMessage | Reasoning | FunctionCallItem | CustomCallItem


class ReasoningConfig(Struct, frozen=True):
    """How much the agent was to think: its own business."""

    effort: None = None
    summary: None = None


class AnswerTextConfig(Struct, frozen=True):
    """How the text was to be."""

    format: Format = Format()


class ResponseAnswer(Struct, frozen=True, kw_only=True):
    """A response."""

    id: str
    created_at: float
    status: Status
    model: str
    output: tuple[OutputItem, ...] = ()
    object: Literal["response"] = "response"
    background: bool = False
    completed_at: float | None = None
    error: ResponseError | None = None
    incomplete_details: Incomplete | None = None
    instructions: str | None = None
    max_output_tokens: int | None = None
    metadata: dict[str, str] = {}
    parallel_tool_calls: bool = True
    previous_response_id: str | None = None
    reasoning: ReasoningConfig = ReasoningConfig()
    store: bool = True
    temperature: float | None = None
    text: AnswerTextConfig = AnswerTextConfig()
    tool_choice: str = "auto"
    tools: tuple[()] = ()
    top_p: float | None = None
    truncation: str = "disabled"
    usage: ResponseUsage | None = None
    user: str | None = None


def response_id(identity: Identity, after: int = 0) -> str:
    """The response's id: the run's, and the entry after which it begins, if the run was held before that."""
    return f"resp_{identity.run_id.removeprefix('run_')}" + (f"_{after}" if after else "")


def run_of(response: str) -> str:
    """The run of a response."""
    return f"run_{response.removeprefix('resp_').partition('_')[0]}"


def after_of(response: str) -> int:
    """The entry of the run after which a response begins."""
    after = response.removeprefix("resp_").partition("_")[2]
    return int(after) if re.fullmatch("[0-9]{1,9}", after) else 0


def usage_of(usage: Usage) -> ResponseUsage:
    """What a turn took."""
    return ResponseUsage(
        usage.input_tokens,
        InputDetails(usage.cached_tokens),
        usage.output_tokens,
        OutputDetails(usage.reasoning_tokens),
        usage.input_tokens + usage.output_tokens,
    )


def status_of(last: Complete | Failed) -> Status:
    """How a response ended."""
    if isinstance(last, Failed):
        return "cancelled" if last.code is Code.CANCELLED else "failed"
    return "incomplete" if incomplete_of(last) else "completed"


def incomplete_of(complete: Complete) -> Incomplete | None:
    """Why a response is not whole, if it is not."""
    match complete.stop_reason:
        case "max_tokens" | "max_turns":
            return Incomplete("max_output_tokens")
        case "refusal":
            return Incomplete("content_filter")
        case _:
            return None


def error_of(failed: Failed) -> ResponseError | None:
    """Why a response failed, in words that clients know."""
    if failed.code is Code.CANCELLED:
        return None
    error = openai_error(fault_of(failed.code, failed.message))
    message = error["message"]
    if failed.retry_after is not UNSET and "try again in" not in message.lower():
        message = (
            f"{message} Try again in {failed.retry_after:g}s."  # Codex waits for as long as it reads there
        )
    return ResponseError(error["code"] if error["code"] in TOLD else "server_error", message)
