"""The Gemini API's generateContent family, as gemini speaks it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from tests.fake_model.conversation import Conversation
from tests.fake_model.reply import Failure, Reply
from tests.fake_model.stream import Step, speak
from tests.fake_model.stream import sse as encode_event

_STOP = {"stop": "STOP", "length": "MAX_TOKENS", "refusal": "SAFETY", "tool": "STOP"}
_ERRORS = {
    400: ("INVALID_ARGUMENT", "fake bad request"),
    401: ("UNAUTHENTICATED", "API key not valid"),
    403: ("PERMISSION_DENIED", "fake permission error"),
    404: ("NOT_FOUND", "models/fake is not found"),
    429: ("RESOURCE_EXHAUSTED", "fake rate limit reached"),
    503: ("UNAVAILABLE", "The model is overloaded. Please try again later."),
}
_RATE_LIMITED = 429
_CONTEXT = "The input token count (1200000) exceeds the maximum number of tokens allowed (1048576)."


def sse(value: Any) -> bytes:
    """Encode one event in ASCII: gemini splits the stream by a regular expression that raw U+2028 breaks."""
    return encode_event(value, encode=lambda plain: json.dumps(plain, separators=(",", ":")).encode())


def read(body: dict[str, Any]) -> Conversation:
    """Find what the user said. A content may hold the CLI's own parts beside the user's."""
    system = body.get("systemInstruction") or {}
    talk = Conversation(system="\n".join(part.get("text", "") for part in system.get("parts", [])))
    for group in body.get("tools") or []:
        for tool in group.get("functionDeclarations") or []:
            talk.tools[tool.get("name", "")] = (
                tool.get("parametersJsonSchema") or tool.get("parameters") or {}
            )
    for content in body.get("contents", []):
        if content.get("role", "user") != "user":
            continue
        for part in content.get("parts", []):
            if "functionResponse" in part:
                talk.tool_results.append(_result(part["functionResponse"].get("response")))
            elif "text" in part:
                talk.hear(part["text"])
    return talk


def stream(reply: Reply, body: dict[str, Any], number: int, input_tokens: int) -> Iterator[Step]:
    """Give the chunks of a streaming answer; an in-stream error is a chunk that is an error body."""
    frame: Any = {"number": number, "input_tokens": input_tokens, "body": body}

    def chunk(part: dict[str, Any]) -> bytes:
        return sse(_answer([part], None, Reply(), **frame))

    if reply.thinking:
        yield chunk(_thought(reply))
    yield from speak(reply.words, reply, lambda word: chunk({"text": word}), sse(error(Failure(503))))
    yield sse(_answer(_tool_parts(reply, number), _STOP[reply.finish], reply, **frame))


def message(reply: Reply, body: dict[str, Any], number: int, input_tokens: int) -> dict[str, Any]:
    """Give the whole answer at once."""
    frame: Any = {"number": number, "input_tokens": input_tokens, "body": body}
    parts: list[dict[str, Any]] = []
    if reply.thinking:
        parts.append(_thought(reply))
    if reply.words:
        parts.append({"text": reply.text})
    return _answer([*parts, *_tool_parts(reply, number)], _STOP[reply.finish], reply, **frame)


def error(failure: Failure) -> dict[str, Any]:
    """Give the body of an HTTP error; the time to wait is in its details, where the CLI looks for it."""
    status, text = _ERRORS.get(failure.status, ("INTERNAL", "fake internal error"))
    if failure.kind == "context":
        status, text = "INVALID_ARGUMENT", _CONTEXT
    body: dict[str, Any] = {"code": failure.status, "message": text, "status": status}
    if failure.status == _RATE_LIMITED:
        kind = "type.googleapis.com/google.rpc.RetryInfo"
        body["details"] = [{"@type": kind, "retryDelay": f"{failure.retry_after or 1}s"}]
    return {"error": body}


def _result(response: Any) -> str:
    if isinstance(response, dict):
        for key in ("output", "error"):
            if isinstance(response.get(key), str):
                return response[key]
    return json.dumps(response)


def _thought(reply: Reply) -> dict[str, Any]:
    """Give the thought whole, with the bold subject that the CLI looks for in every thought part."""
    return {"text": "**Thinking**\n" + "".join(reply.thinking), "thought": True}


def _tool_parts(reply: Reply, number: int) -> list[dict[str, Any]]:
    return [
        {"functionCall": {"id": f"call_{number}_{place}", "name": call.name, "args": call.input}}
        for place, call in enumerate(reply.tools)
    ]


def _answer(
    parts: list[Any],
    finish: str | None,
    reply: Reply,
    *,
    number: int,
    input_tokens: int,
    body: dict[str, Any],
) -> dict[str, Any]:
    candidate: dict[str, Any] = {"index": 0, "content": {"role": "model", "parts": parts}}
    if finish:
        candidate["finishReason"] = finish
    answered = reply.output_tokens - len(reply.thinking)
    usage = {
        "promptTokenCount": input_tokens,
        "candidatesTokenCount": answered,
        "thoughtsTokenCount": len(reply.thinking),
        "cachedContentTokenCount": 3,
        "totalTokenCount": input_tokens + reply.output_tokens,
    }
    return {
        "candidates": [candidate],
        "usageMetadata": usage,
        "modelVersion": body.get("model", "fake-model"),
        "responseId": f"fake{number:05}",
    }
