"""Arbitrary text through our streams, as the readers of real clients read it; and arbitrary frames into the websocket."""

import json
from contextlib import suppress
from itertools import pairwise

import anthropic._streaming
import httpx2
import msgspec
import openai._streaming
import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import UNSET
from trio_websocket import open_websocket_url

from actors.errors import Code, Refusal
from actors.log import Log
from actors.messages import Complete, Failed, Message, Permission, Start, Thinking, ToolResult, ToolUse
from clinvoker.api import frames, websocket_frames
from clinvoker.api.anthropic import events as wire
from clinvoker.api.anthropic import sequence
from clinvoker.api.openai import answers, responses_stream
from tests.api.support import PROMPT
from tests.support.client import Client

# What some readers take for the end of a line, and what ends one in SSE, more often than chance would have it.
BREAKS = "\n\r\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029"
# No `st.text`, which makes one alphabet of the two, in which the few are never drawn.
TEXT = st.lists(
    st.one_of(st.sampled_from(BREAKS + ':" \\\ufeff\0'), st.characters(exclude_categories=["Cs"])),
    max_size=20,
).map("".join)
VALUE = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(2**53), 2**53), TEXT),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(TEXT, inner, max_size=3)),
    max_leaves=6,
)
EVENT = st.one_of(
    st.builds(Start, TEXT, TEXT),
    st.builds(Message, TEXT),
    st.builds(Thinking, TEXT),
    st.builds(ToolUse, TEXT, TEXT, VALUE),
    st.builds(ToolResult, TEXT, TEXT, st.booleans()),
    st.builds(Permission, TEXT, TEXT, VALUE, st.just(("allow", "deny"))),
)
LAST = st.one_of(st.builds(Complete, TEXT, output=TEXT), st.builds(Failed, st.sampled_from(list(Code)), TEXT))
CUTS = st.lists(st.integers(min_value=0), max_size=8)


def logged(events):
    log = Log("run_1", 1 << 24)
    log.append(events, "echo", "ses_1")
    return log.after(0, len(events))


def written(entries):
    """The entries as JSON tells them."""
    return [json.loads(msgspec.json.encode(entry)) for entry in frames.with_types(entries)]


def pieces(data, cuts):
    """The bytes in the pieces in which a socket may give them."""
    places = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [data[start:end] for start, end in pairwise(places)]


def lines_of(data, cuts):
    """The lines that httpx makes of an answer."""

    class Body(httpx2.SyncByteStream):
        def __iter__(self):
            yield from pieces(data, cuts)

    response = httpx2.Response(200, headers={"content-type": "x/y; charset=utf-8"}, stream=Body())
    return list(response.iter_lines())


def sse_of(data, cuts):
    """The data of the events, as the official SDKs and a plain reader of httpx's lines see them: all the same."""
    by_openai = [event.data for event in openai._streaming.SSEDecoder().iter_bytes(iter(pieces(data, cuts)))]
    by_anthropic = [
        event.data for event in anthropic._streaming.SSEDecoder().iter_bytes(iter(pieces(data, cuts)))
    ]
    by_lines = [line.removeprefix("data: ") for line in lines_of(data, cuts) if line.startswith("data: ")]
    assert by_openai == by_anthropic == by_lines
    return by_openai


@given(st.lists(EVENT, max_size=5), LAST, CUTS)
def test_any_event_survives_sse(events, last, cuts):
    entries = logged([*events, last])
    told = [json.loads(data) for data in sse_of(frames.sse(entries), cuts)]
    assert told == written(entries)


@given(st.lists(EVENT, max_size=5), LAST, CUTS)
def test_any_event_survives_ndjson(events, last, cuts):
    entries = logged([*events, last])
    lines = lines_of(frames.ndjson(entries), cuts)
    assert [json.loads(line) for line in lines] == written(entries)


@given(TEXT, CUTS)
def test_any_text_survives_the_streams_of_the_openai_surface(text, cuts):
    [chunk] = sse_of(answers.frame(answers.Delta(content=text)), cuts)
    assert json.loads(chunk) == {"content": text}
    [event] = sse_of(responses_stream.frames([{"type": "t", "sequence_number": 0, "delta": text}]), cuts)
    assert json.loads(event)["delta"] == text


@given(TEXT, CUTS)
def test_any_text_survives_the_streams_of_the_anthropic_surface(text, cuts):
    [event] = sse_of(sequence.frames([wire.BlockDelta(0, wire.TextDelta(text))]), cuts)
    assert json.loads(event)["delta"]["text"] == text


# Into the websocket.

OPS = ("prompt", "attach", "cancel", "permission", "parallel", "", 7, None)
NAMES = ("op", "ref", "prompt", "run_id", "after", "id", "option", "backend", "max_turns", "images", "detach")
ANY_JSON = st.one_of(VALUE, st.integers(), st.floats(), st.binary().map(repr))
OBJECT = st.dictionaries(st.sampled_from(NAMES), ANY_JSON, max_size=6)
FRAME = st.one_of(
    TEXT,
    ANY_JSON.map(json.dumps),
    st.tuples(st.sampled_from(OPS), OBJECT).map(lambda drawn: json.dumps({"op": drawn[0]} | drawn[1])),
    st.integers(1, 5000).map(lambda depth: '{"op":' * depth),
    st.sampled_from(['{"op":"cancel","ref":"\\ud800"}', '{"op":"attach","after":1e400}', "[" * 100_000]),
    st.binary(),
)


@given(FRAME)
def test_any_frame_is_read_or_refused(data):
    with suppress(Refusal):
        frame = websocket_frames.read(data)
        if isinstance(frame, websocket_frames.PromptFrame):
            websocket_frames.prompt_call(frame)
    assert websocket_frames.ref_of(data) is UNSET or "ref" in str(data)


@given(st.text(st.characters(), max_size=20))
def test_a_ref_comes_back_as_it_was_or_is_refused(ref):
    try:
        frame = websocket_frames.read(json.dumps({"op": "cancel", "ref": ref}))
    except Refusal:
        assert any("\ud800" <= character <= "\udfff" for character in ref)
    else:
        assert frame.ref == ref


@pytest.mark.daemon
@settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.lists(
        FRAME.filter(lambda frame: not isinstance(frame, str) or frame.isprintable()),
        min_size=10,
        max_size=40,
    )
)
def test_the_daemon_answers_any_frames_and_the_connection_stays(running, sent):
    async def exchange():
        url = f"ws://127.0.0.1:{running.client.port}/api/v1/ws"
        with trio.fail_after(20):
            async with open_websocket_url(url) as socket:
                for frame in sent:
                    await socket.send_message(frame)
                await socket.send_message(json.dumps({"op": "attach", "ref": "the last", "run_id": "none"}))
                while True:
                    event = json.loads(await socket.get_message())
                    assert event["type"] in {"error", "start", "message", "complete"}, event
                    if event["type"] == "error":
                        assert event["content"]["code"] != Code.INTERNAL, event
                    if event.get("ref") == "the last":
                        return

    trio.run(exchange)


@pytest.mark.daemon
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(TEXT.filter(lambda text: text.strip("\0")))
def test_any_prompt_is_answered_alike_in_each_form_or_refused_by_name(running, text):
    async def ask():
        client = Client(running.client.port)
        asked = {"prompt": text, "backend": "echo", "ephemeral": True}
        whole = await client.call("POST", PROMPT, asked)
        if "\0" in text:
            assert (whole.status, whole.json["error"]["param"]) == (400, "prompt")
            return
        assert whole.json["output"] == text
        for accept in ("text/event-stream", "application/x-ndjson"):
            answer = await client.call("POST", PROMPT, asked, headers={"accept": accept})
            lines = sse_of(answer.body, []) if accept == "text/event-stream" else lines_of(answer.body, [])
            events = [json.loads(line) for line in lines]
            said = "".join(event["content"]["text"] for event in events if event["type"] == "message")
            assert said == events[-1]["content"]["output"] == text

    trio.run(ask)
