"""The OpenAI Chat Completions API, as opencode speaks it through @ai-sdk/openai-compatible."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from tests.fake_model import openai_errors
from tests.fake_model.conversation import Conversation, texts
from tests.fake_model.reply import Reply
from tests.fake_model.stream import Step, speak, sse

error = openai_errors.error
_STOP = {"stop": "stop", "length": "length", "refusal": "content_filter", "tool": "tool_calls"}


def read(body: dict[str, Any]) -> Conversation:
    """Find what the user said."""
    talk = Conversation()
    for tool in body.get("tools") or []:
        function = tool.get("function", {})
        talk.tools[function.get("name", "")] = function.get("parameters") or {}
    for message in body.get("messages", []):
        said = texts(message.get("content"), "text")
        match message.get("role"):
            case "system":
                talk.system += "\n".join(said)
            case "tool":
                talk.tool_results.append("\n".join(said))
            case "user":
                for text in said:
                    talk.hear(text)
            case _:
                pass
    return talk


def stream(reply: Reply, body: dict[str, Any], number: int, input_tokens: int) -> Iterator[Step]:
    """Give the chunks of a streaming answer."""

    def chunk(delta: dict[str, Any], finish: str | None = None, **fields: Any) -> bytes:
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        return sse({**_head(body, number, "chat.completion.chunk"), "choices": [choice], **fields})

    yield chunk({"role": "assistant", "content": ""})
    yield from speak(reply.thinking, reply, lambda word: chunk({"reasoning_content": word}))
    fault = sse({"error": {"message": "fake mid-stream failure", "type": "server_error", "code": None}})
    yield from speak(reply.words, reply, lambda word: chunk({"content": word}), fault)
    for index, call in enumerate(_calls(reply, number)):
        yield chunk({"tool_calls": [{"index": index, **call}]})
    yield chunk({}, _STOP[reply.finish])
    usage = _usage(reply, input_tokens)
    yield sse({**_head(body, number, "chat.completion.chunk"), "choices": [], "usage": usage})
    yield b"data: [DONE]\n\n"


def message(reply: Reply, body: dict[str, Any], number: int, input_tokens: int) -> dict[str, Any]:
    """Give the whole answer at once."""
    said: dict[str, Any] = {"role": "assistant", "content": reply.text}
    if reply.thinking:
        said["reasoning_content"] = "".join(reply.thinking)
    if reply.tools:
        said["tool_calls"] = _calls(reply, number)
    choice = {"index": 0, "message": said, "finish_reason": _STOP[reply.finish]}
    usage = _usage(reply, input_tokens)
    return {**_head(body, number, "chat.completion"), "choices": [choice], "usage": usage}


def _head(body: dict[str, Any], number: int, kind: str) -> dict[str, Any]:
    model = body.get("model", "fake-model")
    return {"id": f"chatcmpl-fake{number:05}", "object": kind, "created": 1_700_000_000, "model": model}


def _calls(reply: Reply, number: int) -> list[dict[str, Any]]:
    return [
        {
            "id": f"call_{number}_{place}",
            "type": "function",
            "function": {"name": call.name, "arguments": json.dumps(call.input)},
        }
        for place, call in enumerate(reply.tools)
    ]


def _usage(reply: Reply, input_tokens: int) -> dict[str, Any]:
    return {
        "prompt_tokens": input_tokens,
        "completion_tokens": reply.output_tokens,
        "total_tokens": input_tokens + reply.output_tokens,
        "prompt_tokens_details": {"cached_tokens": 3},
        "completion_tokens_details": {"reasoning_tokens": len(reply.thinking)},
    }
