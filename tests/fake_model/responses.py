"""The OpenAI Responses API, as codex speaks it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from tests.fake_model import openai_errors
from tests.fake_model.conversation import Conversation, texts
from tests.fake_model.directives import ToolCall
from tests.fake_model.reply import Failure, Reply
from tests.fake_model.stream import Step, speak, sse

error = openai_errors.error
_INCOMPLETE = {"length": "max_output_tokens", "refusal": "content_filter"}


def read(body: dict[str, Any]) -> Conversation:
    """Find what the user said among the input items."""
    talk = Conversation(system=str(body.get("instructions") or ""))
    talk.tools = {tool.get("name", ""): tool.get("parameters") or {} for tool in body.get("tools") or []}
    items = body.get("input")
    if isinstance(items, str):
        talk.hear(items)
        return talk
    for item in items or []:
        if item.get("type") == "additional_tools":
            talk.tools |= _declared(json.dumps(item, ensure_ascii=False))
        elif item.get("type") in {"function_call_output", "custom_tool_call_output"}:
            talk.tool_results.append(
                "\n".join(texts(item.get("output"), "input_text", "output_text", "text"))
            )
        elif item.get("role") == "user":
            for text in texts(item.get("content"), "input_text", "text"):
                talk.hear(text)
    return talk


def stream(reply: Reply, body: dict[str, Any], number: int, input_tokens: int) -> Iterator[Step]:
    """Give the events of a streaming answer."""
    sequence = 0

    def event(kind: str, **fields: Any) -> bytes:
        nonlocal sequence
        sequence += 1
        return sse({"type": kind, "sequence_number": sequence, **fields}, kind)

    begun = _response(body, number, "in_progress", [], None)
    yield event("response.created", response=begun)
    yield event("response.in_progress", response=begun)
    if reply.failure:  # a context overflow is told in the stream
        yield event(
            "response.failed", response={**begun, "status": "failed", "error": error(reply.failure)["error"]}
        )
        return
    output: list[dict[str, Any]] = []
    if reply.thinking:
        where = {"item_id": f"rs_fake{number:05}", "output_index": 0, "summary_index": 0}
        done = _reasoning(reply, number)
        yield event("response.output_item.added", output_index=0, item={**done, "summary": []})
        empty = {"type": "summary_text", "text": ""}
        yield event("response.reasoning_summary_part.added", **where, part=empty)
        kind = "response.reasoning_summary_text.delta"
        yield from speak(reply.thinking, reply, lambda word: event(kind, **where, delta=word))
        yield event("response.reasoning_summary_text.done", **where, text="".join(reply.thinking))
        yield event("response.reasoning_summary_part.done", **where, part=done["summary"][0])
        yield event("response.output_item.done", output_index=0, item=done)
        output.append(done)
    if reply.words:
        index = len(output)
        where = {"item_id": f"msg_fake{number:05}", "output_index": index, "content_index": 0}
        done = _message(reply.text, number)
        yield event(
            "response.output_item.added",
            output_index=index,
            item={**done, "status": "in_progress", "content": []},
        )
        yield event("response.content_part.added", **where, part={**done["content"][0], "text": ""})
        failed = {"code": "server_error", "message": "fake mid-stream failure"}
        fault = event("response.failed", response={**begun, "status": "failed", "error": failed})
        yield from speak(
            reply.words, reply, lambda word: event("response.output_text.delta", **where, delta=word), fault
        )
        yield event("response.output_text.done", **where, text=reply.text)
        yield event("response.content_part.done", **where, part=done["content"][0])
        yield event("response.output_item.done", output_index=index, item=done)
        output.append(done)
    for place, call in enumerate(reply.tools):
        done = _call(call, number, place)
        yield event("response.output_item.added", output_index=len(output), item=done)
        yield event("response.output_item.done", output_index=len(output), item=done)
        output.append(done)
    status = "incomplete" if reply.finish in _INCOMPLETE else "completed"
    ended = _response(body, number, status, output, _usage(reply, input_tokens))
    if status == "incomplete":
        ended["incomplete_details"] = {"reason": _INCOMPLETE[reply.finish]}
    yield event(f"response.{status}", response=ended)


def message(reply: Reply, body: dict[str, Any], number: int, input_tokens: int) -> dict[str, Any]:
    """Give the whole answer at once."""
    output = [_reasoning(reply, number)] if reply.thinking else []
    if reply.words:
        output.append(_message(reply.text, number))
    output += [_call(call, number, place) for place, call in enumerate(reply.tools)]
    return _response(body, number, "completed", output, _usage(reply, input_tokens))


def in_stream(failure: Failure) -> bool:
    """Tell whether this failure is an event of a 200 stream and no HTTP error: codex knows an overflow only so."""
    return failure.kind == "context"


def _declared(told: str) -> dict[str, dict[str, Any]]:
    """Find the tools that codex's own models call from code: they are told of in TypeScript, as JSON here."""
    found: dict[str, dict[str, Any]] = {}
    for name, fields in re.findall(r"declare const tools: \{ (\w+)\(args: \{(.*?)\}\)", told):
        declared = re.findall(r"(?<!\[)\b(\w+)(\??): (\w+)", re.sub(r"//.*?\\n", "", fields))
        properties = {field: {"type": kind} for field, _, kind in declared}
        required = [field for field, optional, _ in declared if not optional]
        found[name] = {"type": "object", "properties": properties, "required": required}
    return found


def _message(text: str, number: int) -> dict[str, Any]:
    content = [{"type": "output_text", "text": text, "annotations": []}]
    return {
        "id": f"msg_fake{number:05}",
        "type": "message",
        "role": "assistant",
        "status": "completed",
        "content": content,
    }


def _reasoning(reply: Reply, number: int) -> dict[str, Any]:
    summary = [{"type": "summary_text", "text": "".join(reply.thinking)}]
    return {"id": f"rs_fake{number:05}", "type": "reasoning", "summary": summary}


def _call(tool: ToolCall, number: int, place: int) -> dict[str, Any]:
    """Call a tool: one with text for input is a free-form ("custom") tool, such as apply_patch.

    `space/name` is the tool of that name in a namespace.
    """
    space, _, name = tool.name.rpartition("/")
    call = {"call_id": f"call_{number}_{place}", "name": name, "status": "completed"}
    if space:
        call["namespace"] = space
    if isinstance(tool.input, str):
        return {
            "id": f"ctc_fake{number:05}_{place}",
            "type": "custom_tool_call",
            **call,
            "input": tool.input,
        }
    arguments = json.dumps(tool.input)
    return {"id": f"fc_fake{number:05}_{place}", "type": "function_call", **call, "arguments": arguments}


def _response(
    body: dict[str, Any], number: int, status: str, output: list[Any], usage: Any
) -> dict[str, Any]:
    return {
        "id": f"resp_fake{number:05}",
        "object": "response",
        "created_at": 1_700_000_000,
        "status": status,
        "error": None,
        "incomplete_details": None,
        "model": body.get("model", "fake-model"),
        "output": output,
        "usage": usage,
    }


def _usage(reply: Reply, input_tokens: int) -> dict[str, Any]:
    """Cached and reasoning tokens are parts of the totals here."""
    return {
        "input_tokens": input_tokens,
        "input_tokens_details": {"cached_tokens": 3},
        "output_tokens": reply.output_tokens,
        "output_tokens_details": {"reasoning_tokens": len(reply.thinking)},
        "total_tokens": input_tokens + reply.output_tokens,
    }
