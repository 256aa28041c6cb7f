"""One run as JSON, as SSE and as NDJSON, and how a caller says which."""

import json

import pytest
from msgspec import UNSET

from actors.errors import Code
from actors.log import Log
from actors.messages import Complete, Failed, Message, Start
from clinvoker.api import frames
from tests.api.support import PROMPT, error_of, prompt


def entries(*events):
    log = Log("run_1", 1 << 20)
    log.append(list(events), "echo", "ses_1")
    return log.after(0, 100)


def test_an_sse_frame_is_an_id_a_data_line_and_a_blank_one():
    page = entries(Start("m", "/w"), Message('a\n"\u2028\r é'))
    first, second, rest = frames.sse(page).split(b"\n\n")
    assert rest == b""
    assert first.startswith(b'id: 1\ndata: {"type":"start"')
    number, data = second.split(b"\n")
    assert number == b"id: 2"
    assert b"\r" not in data
    event = json.loads(data.removeprefix(b"data: "))
    assert event["content"] == {"text": 'a\n"\u2028\r é'}
    assert event.keys() == {"type", "backend", "content", "timestamp", "run_id", "seq", "session_id"}


def test_an_ndjson_frame_is_a_line():
    lines = frames.ndjson(entries(Message("a\nb"), Message("c"))).split(b"\n")
    assert [json.loads(line)["content"]["text"] for line in lines[:-1]] == ["a\nb", "c"]
    assert lines[-1] == b""


@pytest.mark.parametrize("frame", [frames.sse, frames.ndjson])
def test_an_error_gets_its_type_where_it_is_written(frame):
    page = entries(Message("a"), Failed(Code.BACKEND_RATE_LIMITED, "wait", retry_after=2.5))
    written = frame(page)
    assert b'"type":"rate_limit_error"' in written
    assert b'"retry_after":2.5' in written
    assert page[-1].content.type is UNSET


def test_what_is_no_error_is_written_as_it_is():
    page = entries(Message("a"), Complete("end_turn"))
    assert list(frames.with_types(page)) == page


TEXT = "one two\u2028three \U0001f642 four\n\nfive"


def parse_ndjson(answer):
    assert answer.headers["content-type"] == "application/x-ndjson"
    return [json.loads(line) for line in answer.body.split(b"\n") if line]


def parse_sse(answer):
    assert answer.headers["content-type"].startswith("text/event-stream")
    *blocks, rest = answer.body.split(b"\n\n")
    assert rest == b""
    return [json.loads(block.partition(b"data: ")[2]) for block in blocks if not block.startswith(b":")]


@pytest.mark.daemon
@pytest.mark.parametrize(
    ("accept", "parse"), [("text/event-stream", parse_sse), ("application/x-ndjson", parse_ndjson)]
)
@pytest.mark.parametrize("backend", ["echo", "scripted"])
async def test_a_stream_and_the_whole_answer_tell_the_same(client, backend, accept, parse):
    whole = (await prompt(client, prompt=TEXT, backend=backend)).json
    fields = {"prompt": TEXT, "backend": backend}
    answer = await client.call("POST", PROMPT, fields, headers={"accept": accept})
    events = parse(answer)
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    assert events[0]["type"] == "start"
    assert [event["type"] for event in events].count("complete") == 1
    assert events[-1]["type"] == "complete"
    pieces = [event["content"]["text"] for event in events if event["type"] == "message"]
    last = events[-1]["content"]
    assert "".join(pieces) == last["output"] == whole["output"] == TEXT
    assert len(pieces) > 3
    assert last.keys() >= {"stop_reason", "exit_code", "duration_ms", "output", "token_usage"}
    assert (last["exit_code"], last["token_usage"]) == (whole["exit_code"], whole["token_usage"])
    assert {event["run_id"] for event in events} == {answer.headers["x-clinvoker-run"]}
    assert len({event["session_id"] for event in events}) == 1


@pytest.mark.daemon
async def test_the_whole_answer_has_the_documented_fields(client):
    whole = (await prompt(client, prompt="hello you", backend="echo")).json
    assert whole.keys() == {
        *("session_id", "backend", "model", "exit_code", "duration_ms", "output", "token_usage", "run_id"),
        "stop_reason",
    }
    assert whole["token_usage"].keys() == {
        *("input_tokens", "output_tokens", "cached_tokens", "reasoning_tokens", "cost_usd")
    }
    assert whole["token_usage"]["input_tokens"] == 2
    assert whole["duration_ms"] >= 0


@pytest.mark.daemon
async def test_verbose_adds_all_events_but_the_texts(client):
    whole = (await prompt(client, prompt="hello you", backend="echo", verbose=True)).json
    assert [event["type"] for event in whole["events"]] == ["start", "complete"]


@pytest.mark.daemon
async def test_a_failed_turn_is_told_in_every_form(client):
    fields = {"prompt": "this much {{exit:3}}", "backend": "scripted"}
    whole = (await prompt(client, **fields)).json
    assert (whole["exit_code"], whole["output"]) == (1, "this much ")
    assert (whole["error"]["code"], whole["error"]["type"]) == ("backend_crashed", "backend_error")
    for accept, parse in (("text/event-stream", parse_sse), ("application/x-ndjson", parse_ndjson)):
        events = parse(await client.call("POST", PROMPT, fields, headers={"accept": accept}))
        assert events[-1]["type"] == "error"
        assert events[-1]["content"].keys() == {"code", "message", "type"}
        assert events[-1]["content"]["code"] == "backend_crashed"


JSON, SSE, NDJSON = "application/json", "text/event-stream", "application/x-ndjson"


@pytest.mark.daemon
@pytest.mark.parametrize(
    ("accept", "fields", "expected"),
    [
        (None, {}, JSON),
        ("", {}, JSON),
        ("*/*", {}, JSON),
        ("application/*", {}, JSON),
        ("text/html", {}, JSON),
        (JSON, {}, JSON),
        (SSE, {}, SSE),
        ("text/*", {}, SSE),
        (NDJSON, {}, NDJSON),
        (f"{SSE}, */*;q=0.1", {}, SSE),
        (f"{SSE};q=0", {}, JSON),
        (f"{SSE};q=0.5, {JSON}", {}, JSON),
        (f"{JSON};q=0.5, {SSE};q=0.9", {}, SSE),
        (f"{JSON}, {SSE}", {}, JSON),  # what MCP clients send
        (f"{NDJSON};q=0.9, {SSE};q=0.8", {}, NDJSON),
        ("garbage;;q=x", {}, JSON),
        (None, {"stream": True}, SSE),
        (JSON, {"stream": True}, SSE),
        (NDJSON, {"stream": True}, NDJSON),
        (None, {"output_format": "stream-json"}, NDJSON),
        (SSE, {"output_format": "stream-json"}, NDJSON),
        (None, {"output_format": "json"}, JSON),
        (None, {"output_format": "text"}, JSON),
        (None, {"output_format": "default"}, JSON),
    ],
)
async def test_the_caller_says_how_the_answer_is_to_come(client, accept, fields, expected):
    body = {"prompt": "hello", "backend": "echo", **fields}
    answer = await client.call("POST", PROMPT, body, headers={"accept": accept})
    assert answer.status == 200
    assert answer.headers["content-type"].partition(";")[0] == expected


@pytest.mark.daemon
@pytest.mark.parametrize("accept", [JSON, SSE, NDJSON])
async def test_a_refusal_is_a_json_error_whatever_was_asked_for(client, accept):
    body = {"prompt": "hello", "backend": "claude"}
    answer = await client.call("POST", PROMPT, body, headers={"accept": accept})
    assert (answer.status, error_of(answer)["code"]) == (503, "backend_not_installed")
