"""A turn's events as the events of a message: every order they can come in."""

import json
from typing import get_args

import msgspec
import pytest
from anthropic.lib.streaming._messages import accumulate_event
from anthropic.types import RawMessageStreamEvent
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from actors.errors import Code
from actors.messages import Complete, Failed, Message, Start, Thinking, ToolResult, ToolUse, Usage
from clinvoker.api.anthropic.sequence import SIGNATURE, Sequence, frames, whole
from clinvoker.chat.failure import Refused

START = Start("claude-fake", "/w")
DONE = Complete("end_turn", Usage(10, 5, 4, 2), output="")
EVENT = TypeAdapter(RawMessageStreamEvent)


def told(*contents, **options):
    """All that a sequence tells of these events."""
    sequence = Sequence("msg_1", "asked", **{"prompt_tokens": 7, "request_id": "req_1", **options})
    return [event for content in contents for event in sequence.take(content)]


def parsed(events):
    """Frames as a client reads them: names and data."""
    found = []
    for frame in frames(events).decode().removesuffix("\n\n").split("\n\n"):
        name, data = frame.split("\n")
        found.append((name.removeprefix("event: "), json.loads(data.removeprefix("data: "))))
    return found


def names(events):
    """What kinds of events, deltas by their own type."""
    short = {"content_block_start": "start", "content_block_stop": "stop"}
    return [
        data["delta"]["type"] if name == "content_block_delta" else short.get(name, name)
        for name, data in parsed(events)
    ]


ENDED = ["message_delta", "message_stop"]
ORDERS = [
    ("nothing said", [], []),
    ("a word", [Message("a")], ["start", "text_delta", "stop"]),
    ("words", [Message("a"), Message("b")], ["start", "text_delta", "text_delta", "stop"]),
    (
        "thought first",
        [Thinking("t"), Message("a")],
        ["start", "thinking_delta", "signature_delta", "stop", "start", "text_delta", "stop"],
    ),
    (
        "thought after",
        [Message("a"), Thinking("t"), Thinking("u")],
        [
            "start",
            "text_delta",
            "stop",
            "start",
            "thinking_delta",
            "thinking_delta",
            "signature_delta",
            "stop",
        ],
    ),
    (
        "the agent's own tools",
        [Message("a"), ToolUse("1", "Bash", {}), ToolResult("1", "out"), Message("b")],
        ["start", "text_delta", "text_delta", "stop"],
    ),
    ("empty pieces", [Message(""), Thinking(""), Message("a"), Message("")], ["start", "text_delta", "stop"]),
]


@pytest.mark.parametrize(("said", "expected"), [row[1:] for row in ORDERS], ids=[row[0] for row in ORDERS])
def test_events_come_in_the_official_order(said, expected):
    assert names(told(START, *said, DONE)) == ["message_start", *expected, *ENDED]


def test_blocks_are_numbered_and_each_piece_names_its_own():
    data = [each for _, each in parsed(told(START, Thinking("t"), Message("a"), Thinking("u"), DONE))]
    assert [each["index"] for each in data if "index" in each] == [0, 0, 0, 0, 1, 1, 1, 2, 2, 2, 2]


def test_a_message_begins_with_what_is_known_of_it_already():
    (start,) = parsed(told(START))
    assert start[0] == "message_start"
    assert start[1] == {
        "type": "message_start",
        "message": {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "model": "claude-fake",
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "stop_details": None,
            "usage": {
                "input_tokens": 7,
                "cache_creation_input_tokens": 0,
                "cache_read_input_tokens": 0,
                "output_tokens": 0,
                "output_tokens_details": {"thinking_tokens": 0},
            },
        },
    }


def test_the_usage_at_the_end_is_the_whole_turns_with_cached_tokens_apart():
    (delta,) = [data for name, data in parsed(told(START, DONE)) if name == "message_delta"]
    assert delta["usage"] == {
        "input_tokens": 6,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 4,
        "output_tokens": 5,
        "output_tokens_details": {"thinking_tokens": 2},
    }


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ("end_turn", "end_turn"),
        ("max_tokens", "max_tokens"),
        ("stop_sequence", "stop_sequence"),
        ("refusal", "refusal"),
        ("max_turns", "pause_turn"),
        ("tool_use", "tool_use"),
        ("something new", "end_turn"),
    ],
)
def test_the_reason_of_the_end_is_one_that_clients_know(ours, theirs):
    delta = parsed(told(START, Complete(ours)))[-2][1]["delta"]
    assert delta["stop_reason"] == theirs


def test_a_refusal_of_the_models_is_an_answer_with_its_explanation():
    events = told(START, Message("Well"), Refused("refusal", message="not that"))
    assert names(events) == ["message_start", "start", "text_delta", "stop", *ENDED]
    delta = parsed(events)[-2][1]["delta"]
    assert delta["stop_reason"] == "refusal"
    assert delta["stop_details"] == {"type": "refusal", "category": None, "explanation": "not that"}


def test_a_failure_breaks_the_stream_off_with_an_error_that_names_the_request():
    events = told(START, Message("a"), Failed(Code.CRASHED, "it died"))
    assert names(events) == ["message_start", "start", "text_delta", "error"]
    assert parsed(events)[-1][1] == {
        "type": "error",
        "error": {"type": "api_error", "message": "it died"},
        "request_id": "req_1",
    }


def test_who_does_not_want_to_see_it_think_sees_none_of_it():
    events = told(START, Thinking("t"), Message("a"), DONE, thinking=False)
    assert names(events) == ["message_start", "start", "text_delta", "stop", *ENDED]


def test_the_name_asked_for_stands_until_the_agent_tells_its_model():
    assert parsed(told(Start("", "/w")))[0][1]["message"]["model"] == "asked"


def test_text_that_would_break_a_line_stays_within_one():
    text = "a\r\nb\n\nc\u2028d\0"
    assert [data["delta"]["text"] for name, data in parsed(told(Message(text))) if "delta" in name] == [text]


PIECES = st.lists(
    st.builds(Message, st.text(max_size=3)) | st.builds(Thinking, st.text(max_size=3)), max_size=12
)


@given(PIECES)
def test_whatever_comes_the_sdk_and_we_add_it_up_to_the_same_message(pieces):
    events = told(START, *pieces, DONE)
    snapshot = None
    for name, data in parsed(events):
        event = EVENT.validate_python(data)
        assert type(event) in get_args(get_args(RawMessageStreamEvent)[0])
        assert event.type == name
        snapshot = accumulate_event(event=event, current_snapshot=snapshot, json_bufs={})
    message = json.loads(msgspec.json.encode(whole(events)))
    assert snapshot is not None
    assert [block.to_dict() for block in snapshot.content] == message["content"]
    said = "".join(block["text"] for block in message["content"] if block["type"] == "text")
    assert said == "".join(piece.text for piece in pieces if type(piece) is Message)
    assert all(block["signature"] == SIGNATURE for block in message["content"] if block["type"] == "thinking")
