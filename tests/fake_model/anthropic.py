"""The Anthropic Messages API, as claude speaks it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from tests.fake_model.conversation import Conversation, texts
from tests.fake_model.directives import ToolCall
from tests.fake_model.reply import Failure, Reply
from tests.fake_model.stream import Step, speak, sse

_STOP = {"stop": "end_turn", "length": "max_tokens", "refusal": "refusal", "tool": "tool_use"}
_ERRORS = {
    400: ("invalid_request_error", "fake bad request"),
    401: ("authentication_error", "invalid x-api-key"),
    403: ("permission_error", "fake permission error"),
    404: ("not_found_error", "model: fake"),
    413: ("request_too_large", "Request exceeds the maximum size"),
    429: ("rate_limit_error", "fake rate limit"),
    529: ("overloaded_error", "Overloaded"),
}


def read(body: dict[str, Any]) -> Conversation:
    """Find what the user said. Consecutive user messages arrive merged, so every text block counts as one saying."""
    talk = Conversation(system="\n".join(texts(body.get("system"), "text")))
    talk.tools = {tool.get("name", ""): tool.get("input_schema") or {} for tool in body.get("tools") or []}
    for message in body.get("messages", []):
        if message.get("role") != "user":
            continue
        content = message.get("content")
        if isinstance(content, str):
            talk.hear(content)
            continue
        for block in content or []:
            if block.get("type") == "tool_result":
                talk.tool_results.append("\n".join(texts(block.get("content"), "text")))
            else:
                for text in texts([block], "text"):
                    talk.hear(text)
    return talk


def stream(reply: Reply, body: dict[str, Any], number: int, input_tokens: int) -> Iterator[Step]:
    """Give the events of a streaming answer."""

    def event(kind: str, **fields: Any) -> bytes:
        return sse({"type": kind, **fields}, kind)

    def delta(index: int, kind: str, key: str, value: str) -> bytes:
        return event("content_block_delta", index=index, delta={"type": kind, key: value})

    start = message(Reply(), body, number, input_tokens)
    start["stop_reason"] = None
    start["usage"]["output_tokens"] = 1
    yield event("message_start", message=start)
    index = 0
    if reply.thinking:
        block = {"type": "thinking", "thinking": "", "signature": ""}
        yield event("content_block_start", index=index, content_block=block)
        yield from speak(reply.thinking, reply, lambda word: delta(0, "thinking_delta", "thinking", word))
        yield delta(index, "signature_delta", "signature", "c2ln")
        yield event("content_block_stop", index=index)
        index += 1
    if reply.words:
        yield event("content_block_start", index=index, content_block={"type": "text", "text": ""})
        fault = event("error", error={"type": "overloaded_error", "message": "fake mid-stream failure"})
        yield from speak(reply.words, reply, lambda word: delta(index, "text_delta", "text", word), fault)
        yield event("content_block_stop", index=index)
        index += 1
    for at, call in enumerate(reply.tools, index):
        yield event("content_block_start", index=at, content_block={**_call(call, number, at), "input": {}})
        raw = json.dumps(call.input)
        half = len(raw) // 2
        for part in (raw[:half], raw[half:]):
            yield delta(at, "input_json_delta", "partial_json", part)
        yield event("content_block_stop", index=at)
    yield event(
        "message_delta",
        delta={"stop_reason": _STOP[reply.finish], "stop_sequence": None},
        usage=_usage(input_tokens, reply.output_tokens),
    )
    yield event("message_stop")


def message(reply: Reply, body: dict[str, Any], number: int, input_tokens: int) -> dict[str, Any]:
    """Give the whole answer at once."""
    content: list[dict[str, Any]] = []
    if reply.thinking:
        content.append({"type": "thinking", "thinking": "".join(reply.thinking), "signature": "c2ln"})
    if reply.words:
        content.append({"type": "text", "text": reply.text})
    content += [_call(call, number, at) for at, call in enumerate(reply.tools, len(content))]
    return {
        "id": f"msg_fake{number:05}",
        "type": "message",
        "role": "assistant",
        "model": body.get("model", "fake-model"),
        "content": content,
        "stop_reason": _STOP[reply.finish],
        "stop_sequence": None,
        "usage": {**_usage(input_tokens, reply.output_tokens), "service_tier": "standard"},
    }


def error(failure: Failure) -> dict[str, Any]:
    """Give the body of an HTTP error."""
    kind, text = _ERRORS.get(failure.status, ("api_error", "Internal server error"))
    if failure.kind == "context":
        kind, text = "invalid_request_error", "prompt is too long: 210000 tokens > 200000 maximum"
    return {"type": "error", "error": {"type": kind, "message": text}, "request_id": "req_fake"}


def _call(call: ToolCall, number: int, index: int) -> dict[str, Any]:
    return {"type": "tool_use", "id": f"toolu_{number}_{index}", "name": call.name, "input": call.input}


def _usage(input_tokens: int, output_tokens: int) -> dict[str, int]:
    """Input and cached tokens are apart here: they add up."""
    return {
        "input_tokens": input_tokens,
        "cache_creation_input_tokens": 7,
        "cache_read_input_tokens": 11,
        "output_tokens": output_tokens,
    }
