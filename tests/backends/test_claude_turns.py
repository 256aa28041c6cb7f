"""What recorded turns of claude said, and the events that are made of them."""

import json

import pytest
from msgspec import UNSET

from actors.errors import Code
from actors.messages import Complete, Message, Options, Prompt, Thinking, ToolResult, ToolUse, Usage
from tests.backends.claude_wire import SCHEMA, START, Wire, messages, recorded
from tests.backends.harness import only, text_of


async def test_a_thinking_turn_is_start_reasoning_text_and_usage():
    assert await Wire().turn(recorded("thinking")) == [
        START,
        *map(Thinking, ("let ", "me ", "think")),
        *map(Message, ("echo:", " [[think]]", " hi")),
        Complete("end_turn", Usage(2733, 3, 11, 0, pytest.approx(0.0109572))),
    ]


async def test_a_tool_that_was_allowed():
    call = {"command": "echo hi-from-tool", "description": "say hi"}
    assert (await Wire().turn(recorded("tool_allowed")))[:-1] == [
        START,
        Message("calling"),
        ToolUse("toolu_11_0", "Bash", call),
        ToolResult("toolu_11_0", "hi-from-tool"),
        Message("\n\ntool-result:"),
        Message(" hi-from-tool"),
    ]


async def test_a_tool_that_was_denied_is_named():
    events = await Wire().turn(recorded("tool_denied"))
    assert [result.is_error for result in only(events, ToolResult)] == [True]
    assert events[-1].denied == ("Bash",)


@pytest.mark.parametrize("name", ["mid_cut", "mid_error"])
async def test_a_stream_that_broke_and_was_told_again_is_read_once(name):
    events = await Wire().turn(recorded(name))
    mark = name.replace("_", ":")
    assert text_of(events) == f"echo: [[{mark}]] one two three four five six"
    assert isinstance(events[-1], Complete)


async def test_a_stream_told_again_in_deltas_is_read_once():
    def delta(text):
        event = {"type": "content_block_delta", "delta": {"type": "text_delta", "text": text}}
        return {"type": "stream_event", "event": event}

    begin = {
        "type": "stream_event",
        "event": {"type": "content_block_start", "content_block": {"type": "text"}},
    }
    whole = {
        "type": "assistant",
        "message": {"model": "m", "content": [{"type": "text", "text": "one two three"}]},
    }
    retry = {"type": "system", "subtype": "api_retry", "retry_delay_ms": 500, "error": "unknown"}
    lines = [begin, delta("one"), delta(" two"), retry, begin, delta("one"), delta(" two three"), whole]
    events = await Wire().turn([*lines, {"type": "result", "subtype": "success"}])
    assert messages(events) == ["one", " two", " three"]


async def test_an_answer_that_goes_on_after_the_token_limit_is_not_set_off():
    text = text_of(await Wire().turn(recorded("max_tokens")))
    assert text.startswith("echo: [[max]] a b cecho: Output token limit hit.")


async def test_the_callers_own_token_limit_is_an_end():
    events = await Wire().turn(recorded("max_tokens"), options=Options(workdir="/ws", max_tokens=5))
    assert text_of(events) == "echo: [[max]] a b c"
    assert events[-1].stop_reason == "max_tokens"


async def test_the_answer_to_a_schema_is_the_structured_output_alone():
    events = await Wire().turn(recorded("schema"), Prompt("hi", schema=SCHEMA))
    assert events[:-1] == [START, Message('{"name":"bob"}')]
    assert events[-1].stop_reason == "end_turn"


async def test_no_structured_output_is_a_failure():
    events = await Wire().turn(recorded("thinking"), Prompt("hi", schema=SCHEMA))
    assert events[-1].code is Code.BACKEND_ERROR


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("auth_missing", Code.NOT_LOGGED_IN),
        ("err_400", Code.BACKEND_ERROR),
        ("err_401", Code.NOT_LOGGED_IN),
        ("err_413", Code.CONTEXT_TOO_LONG),
        ("err_429", Code.BACKEND_RATE_LIMITED),
        ("err_500", Code.BACKEND_ERROR),
        ("err_529", Code.BACKEND_OVERLOADED),
        ("upstream_down", Code.BACKEND_UNREACHABLE),
        ("interrupt_tool", Code.CANCELLED),
    ],
)
async def test_an_error_is_its_code_and_never_an_answer(name, code):
    events = await Wire().turn(recorded(name))
    assert events[-1].code is code
    assert not [event for event in only(events, Message) if "Error" in event.text or "login" in event.text]


async def test_what_a_rate_limit_last_had_the_agent_wait_is_told_at_the_end():
    waits = [
        line["retry_delay_ms"] for line in map(json.loads, recorded("err_429")) if "retry_delay_ms" in line
    ]
    failed = (await Wire().turn(recorded("err_429")))[-1]
    assert (failed.code, failed.retry_after) == (Code.BACKEND_RATE_LIMITED, waits[-1] / 1000)
    for other in ("err_500", "err_529"):
        assert (await Wire().turn(recorded(other)))[-1].retry_after is UNSET


async def test_late_lines_and_results_of_other_messages_end_nothing():
    wire = Wire()
    await wire.turn(recorded("thinking"))
    wire.play(*recorded("thinking")[:-1])
    stray = {
        "type": "result",
        "subtype": "success",
        "user_message_uuids": ["another"],
        "total_cost_usd": 0.0109572,
    }
    events = await wire.turn([stray, *recorded("thinking")])
    assert text_of(events) == "echo: [[think]] hi"


async def test_a_subagent_speaks_only_to_its_agent():
    lines = [
        line.replace(b'"parent_tool_use_id":null', b'"parent_tool_use_id":"toolu_1"')
        for line in recorded("thinking")
    ]
    assert only(await Wire().turn(lines), Message | Thinking) == []
