"""Responses: whole, streamed, gone on from, in the background, told again, cancelled."""

import json

import openai
import pytest
import trio

from actors.errors import Code
from actors.messages import Failed
from clinvoker.api.openai.responses_answer import ResponseError, error_of
from tests.openai.support import NUMBER, PICTURE
from tests.support.daemon import wait_until

RESPONSES = "/openai/v1/responses"
TEXT = [
    "response.created",
    "response.in_progress",
    "response.output_item.added",
    "response.content_part.added",
    "response.output_text.delta",
    "response.output_text.delta",
    "response.output_text.done",
    "response.content_part.done",
    "response.output_item.done",
    "response.completed",
]


def create(scene, text, model="scripted", **fields):
    return scene.sdk.responses.create(model=model, input=text, **fields)


def test_a_response_has_all_that_the_sdks_types_need(scene):
    response = create(scene, "a b c", "echo", instructions=None, metadata={"k": "v"}, max_output_tokens=9)
    assert response.id.startswith("resp_")
    assert (response.object, response.status, response.model) == ("response", "completed", "echo")
    assert response.output_text == "a b c"
    [message] = response.output
    assert (message.type, message.role, message.status) == ("message", "assistant", "completed")
    assert (response.usage.input_tokens, response.usage.output_tokens, response.usage.total_tokens) == (
        3,
        3,
        6,
    )
    assert (response.metadata, response.max_output_tokens, response.error) == ({"k": "v"}, 9, None)


SAID = {
    "model": "claude/claude-fable-1",
    "instructions": "be brief",
    "metadata": {"k": "v"},
    "max_output_tokens": 99,
}


@pytest.mark.real
@pytest.mark.daemon
@pytest.mark.parametrize("how", [{}, {"stream": True}, {"background": True}])
def test_a_response_keeps_what_its_request_said(claude, how):
    before = create(claude, "before", "claude")
    made = claude.sdk.responses.create(input="one two", previous_response_id=before.id, **SAID, **how)
    if "stream" in how:
        *_, last = made
        made = last.response
    wait_until(lambda: claude.sdk.responses.retrieve(made.id).status == "completed", 9)
    found = claude.sdk.responses.retrieve(made.id)
    *_, last = claude.sdk.responses.retrieve(made.id, stream=True)
    for told in (found, last.response):
        assert {name: getattr(told, name) for name in SAID} == SAID
        assert (told.id, told.previous_response_id, told.created_at) == (made.id, before.id, made.created_at)
        assert told.background == ("background" in how)
        assert 0 <= told.completed_at - told.created_at < 10
    assert (
        made.completed_at is None if "background" in how else abs(made.completed_at - found.completed_at) <= 1
    )


async def test_metadata_is_words(scene):
    for metadata in ({"k": 1}, "words", [1]):
        body = {"model": "echo", "input": "x", "metadata": metadata}
        answer = await scene.client.call("POST", RESPONSES, body)
        assert answer.status == 400
        assert answer.json["error"]["param"].startswith("metadata")


def test_a_response_that_is_not_to_be_stored_is_not_there_later(scene):
    response = create(scene, "forget me", store=False)
    assert response.store is False
    for again in (
        lambda: scene.sdk.responses.retrieve(response.id),
        lambda: scene.sdk.responses.cancel(response.id),
        lambda: create(scene, "x", previous_response_id=response.id),
    ):
        with pytest.raises(openai.NotFoundError, match="there is no such response"):
            again()


def test_what_a_response_was_told_is_listed(scene):
    response = create(scene, "told this")
    page = scene.sdk.responses.input_items.list(response.id)
    [item] = page.data
    assert (item.type, item.role, item.content[0].text) == ("message", "user", "told this")
    assert (page.first_id, page.last_id, page.has_more) == (item.id, item.id, False)
    assert scene.sdk.responses.input_items.list(response.id, after=item.id, limit=1).data == []
    for name, wrong in (("limit", 0), ("order", "up")):
        with pytest.raises(openai.BadRequestError) as refused:
            scene.sdk.responses.input_items.list(response.id, **{name: wrong})
        assert refused.value.param == name
    with pytest.raises(openai.NotFoundError) as refused:
        scene.sdk.responses.input_items.list("resp_nothing")
    assert refused.value.param == "response_id"


def test_a_stream_tells_a_response_in_order(scene):
    events = list(create(scene, "one two", stream=True))
    assert [event.type for event in events] == TEXT
    assert [event.sequence_number for event in events] == list(range(len(TEXT)))
    assert events[0].response.status == "in_progress"
    assert "".join(event.delta for event in events if event.type == TEXT[4]) == "one two"
    assert events[-1].response.output_text == "one two"
    assert events[-1].response.id == events[0].response.id


def test_the_streaming_helper_takes_it(scene):
    with scene.sdk.responses.stream(model="scripted", input="one two") as stream:
        assert stream.get_final_response().output_text == "one two"


async def test_the_frames_name_their_event(scene):
    body = {"model": "scripted", "input": "one two", "stream": True}
    answer = await scene.client.call("POST", RESPONSES, body)
    frames = answer.body.split(b"\n\n")[:-1]
    for frame in frames:
        name, data = frame.split(b"\n")
        assert name.removeprefix(b"event: ").decode() == json.loads(data.removeprefix(b"data: "))["type"]


async def test_a_silent_response_is_said_to_be_in_progress(quiet):
    body = {"model": "scripted", "input": "one{{wait:0.35}} two", "stream": True}
    answer = await quiet.client.call("POST", RESPONSES, body)
    events = [json.loads(frame.partition(b"data: ")[2]) for frame in answer.body.split(b"\n\n")[:-1]]
    numbers = [event["sequence_number"] for event in events]
    assert numbers == sorted(numbers)
    assert [event["type"] for event in events].count("response.in_progress") >= 3
    assert b"\n:" not in answer.body


def test_input_may_be_items_with_parts(scene):
    items = [
        {"role": "developer", "content": "be brief"},
        {"role": "user", "content": [{"type": "input_text", "text": "zero"}]},
        {"type": "reasoning", "id": "rs_1", "summary": []},
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "nought"}]},
        {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c", "output": "7"},
    ]
    told = create(scene, items).output_text
    assert "<instructions>\nbe brief\n</instructions>" in told
    assert "<user>zero</user>\n<assistant>nought\n\n[call c of f: {}]</assistant>" in told
    assert told.endswith("[result of the call c]\n7")


def test_a_response_goes_on_from_another_in_its_session(scene):
    first = scene.sdk.responses.with_raw_response.create(model="scripted", input="one")
    second = scene.sdk.responses.with_raw_response.create(
        model="scripted", input="two", previous_response_id=first.parse().id
    )
    assert second.parse().output_text == "two"
    assert second.parse().previous_response_id == first.parse().id
    assert second.headers["x-clinvoker-session"] == first.headers["x-clinvoker-session"]


def test_items_of_a_response_may_be_named_by_their_ids(scene):
    first = create(scene, "referred").model_dump()
    [item] = first["output"]
    reference = {"type": "item_reference", "id": item["id"]}
    said = [{"role": "user", "content": "referred"}, reference, {"role": "user", "content": "two"}]
    assert create(scene, said).output_text == "two"  # in its session, which was told the new message alone
    for nobodys in ("msg_1", item["id"] + "0", "", "msg__"):
        said[1] = {"type": "item_reference", "id": nobodys}
        with pytest.raises(openai.NotFoundError) as failed:
            create(scene, said)
        assert failed.value.param == "input[1].id"


@pytest.mark.parametrize("headers", [{"x-clinvoker-approval-mode": "none"}, {"x-clinvoker-workdir": "/"}])
def test_other_modes_or_another_directory_make_another_session_that_is_told_what_was_said(scene, headers):
    first = create(scene, "unrestricted", extra_headers={"x-clinvoker-approval-mode": "auto"})
    second = create(scene, "two", previous_response_id=first.id, extra_headers=headers)
    assert "<user>unrestricted</user>" in second.output_text


def test_new_instructions_are_told(scene):
    first = create(scene, "one", instructions="speak English")
    second = create(scene, "two", previous_response_id=first.id, instructions="speak French")
    assert second.output_text == "<instructions>\nspeak French\n</instructions>\n\ntwo"


def test_a_second_response_that_goes_on_from_the_same_is_told_what_was_said(scene):
    first = create(scene, "root")
    create(scene, "branch one", previous_response_id=first.id)
    told = create(scene, "branch two", previous_response_id=first.id).output_text
    assert "<user>root</user>\n<assistant>root</assistant>" in told
    assert "branch one" not in told


def test_another_agent_goes_on_from_a_response(scene):
    first = create(scene, "handed over")
    told = create(scene, "to you", "echo", previous_response_id=first.id).output_text
    assert "<user>handed over</user>" in told


def test_the_whole_input_sent_again_reaches_the_same_session(scene):
    first = scene.sdk.responses.with_raw_response.create(model="scripted", input="sent again")
    items = [
        {"role": "user", "content": "sent again"},
        *first.parse().output,
        {"role": "user", "content": "two"},
    ]
    second = scene.sdk.responses.with_raw_response.create(model="scripted", input=items)
    assert second.parse().output_text == "two"
    assert second.headers["x-clinvoker-session"] == first.headers["x-clinvoker-session"]


def test_a_response_in_the_background_is_there_later(scene):
    response = create(scene, "slowly{{wait:0.3}} done", background=True)
    assert (response.status, response.background) == ("in_progress", True)
    assert scene.sdk.responses.retrieve(response.id).status == "in_progress"
    wait_until(lambda: scene.sdk.responses.retrieve(response.id).status == "completed", 3)
    assert scene.sdk.responses.retrieve(response.id).output_text == "slowly done"


def test_a_response_is_told_again_from_any_event(scene):
    response = create(scene, "one two", background=True)
    told = list(scene.sdk.responses.retrieve(response.id, stream=True))
    assert [event.type for event in told] == TEXT
    for after in (0, 4, len(TEXT) - 1):
        rest = list(scene.sdk.responses.retrieve(response.id, stream=True, starting_after=after))
        assert [event.sequence_number for event in rest] == list(range(after + 1, len(TEXT)))


def test_a_response_is_cancelled(scene):
    response = create(scene, "never{{wait:60}}", background=True)
    assert scene.sdk.responses.cancel(response.id).status == "cancelled"
    found = scene.sdk.responses.retrieve(response.id)
    assert (found.status, found.error) == ("cancelled", None)


def test_a_response_that_fails_in_its_midst_says_so_in_the_stream(scene):
    *_, last = create(scene, "one two {{error:1,no more}}", stream=True)
    assert last.type == "response.failed"
    assert (last.response.status, last.response.error.code) == ("failed", "server_error")
    assert last.response.error.message == "no more"
    assert scene.sdk.responses.retrieve(last.response.id).status == "failed"


@pytest.mark.parametrize(
    ("failed", "code", "message"),
    [
        (
            Failed(Code.BACKEND_RATE_LIMITED, "Slow down.", retry_after=7.5),
            "rate_limit_exceeded",
            "Slow down. Try again in 7.5s.",
        ),
        (
            Failed(Code.BACKEND_RATE_LIMITED, "Please try again in 7s", retry_after=7.0),
            "rate_limit_exceeded",
            "Please try again in 7s",
        ),
        (Failed(Code.BACKEND_ERROR, "Broken."), "server_error", "Broken."),
    ],
)
def test_a_failure_says_how_long_to_wait_in_the_words_that_codex_reads(failed, code, message):
    assert error_of(failed) == ResponseError(code, message)


@pytest.mark.parametrize("stream", [True, False])
def test_a_response_that_fails_at_once_is_an_error(scene, stream):
    with pytest.raises(openai.APIStatusError, match="not at all") as failed:
        create(scene, "{{error:1,not at all}}", stream=stream)
    assert failed.value.status_code == 502
    assert failed.value.response.headers["x-should-retry"] == "false"


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"input": []}, "input"),
        ({"input": [{"content": "nobody's"}]}, "input[0].role"),
        ({"store": False, "background": True}, "store"),
        ({"prompt": {"id": "pmpt_1"}}, "prompt"),
        ({"tools": [{"type": "function", "name": "f"}]}, "tools"),
        ({"text": {"format": {"type": "json_schema", "name": "x"}}}, "text.format.schema"),
        ({"text": {"format": {"type": "json_schema", "schema": NUMBER}}, "background": True}, "background"),
        (
            {
                "input": [
                    {"role": "user", "content": [{"type": "input_image", "image_url": "http://x/y.png"}]}
                ]
            },
            "input[0].content[0].image_url",
        ),
    ],
)
async def test_what_cannot_be_honoured_is_refused_by_name(scene, fields, param):
    answer = await scene.client.call("POST", RESPONSES, {"model": "echo", "input": "x", **fields})
    assert answer.status == 400
    assert answer.json["error"]["param"] == param


def test_the_tools_that_agents_have_themselves_are_taken(scene):
    assert create(scene, "hello", tools=[{"type": "web_search"}]).output_text == "hello"


@pytest.mark.parametrize("call", ["retrieve", "cancel"])
def test_a_response_that_is_not_there_is_not_found(scene, call):
    with pytest.raises(openai.NotFoundError, match="there is no such response") as refused:
        getattr(scene.sdk.responses, call)("resp_nothing")
    assert refused.value.param == "response_id"


def test_a_response_cannot_go_on_from_one_that_is_not_there(scene):
    with pytest.raises(openai.NotFoundError) as refused:
        create(scene, "x", previous_response_id="resp_nothing")
    assert refused.value.param == "previous_response_id"


def test_an_answer_satisfies_a_schema(answering):
    text = {"format": {"type": "json_schema", "name": "n", "schema": NUMBER, "strict": True}}
    response = answering.sdk.responses.create(model="second", input="a number", text=text)
    assert json.loads(response.output_text) == {"n": 7}
    # By this, LangChain knows that the text is what it asked for.
    assert response.text.format.to_dict() == text["format"]


@pytest.mark.real
@pytest.mark.daemon
def test_thinking_is_an_item_of_its_own(claude):
    events = list(create(claude, "[[think:let me see]][[say:short]]", "claude", stream=True))
    kinds = [event.type for event in events]
    assert kinds.index("response.reasoning_summary_text.delta") < kinds.index("response.output_text.delta")
    reasoning, message = events[-1].response.output
    assert (reasoning.summary[0].text, message.content[0].text) == ("let me see", "short")


@pytest.mark.real
@pytest.mark.daemon
def test_pictures_and_what_was_said_before_reach_the_model(claude):
    image = {"type": "input_image", "image_url": f"data:image/png;base64,{PICTURE}"}
    content = [{"type": "input_text", "text": "see cerulean"}, image]
    first = create(claude, [{"role": "user", "content": content}], "claude")
    again = create(claude, "[[history]]", "claude", previous_response_id=first.id)
    assert "see cerulean" in again.output_text
    assert any(PICTURE in json.dumps(request["body"]) for request in claude.model.requests())


async def test_who_tries_a_websocket_first_is_told_at_once_that_there_is_none(scene):
    # Codex does (clients.md, 1.3), and goes on over HTTP after a 404, 405 or 426.
    upgrade = {
        "connection": "upgrade",
        "upgrade": "websocket",
        "sec-websocket-version": "13",
        "sec-websocket-key": "AAAAAAAAAAAAAAAAAAAAAA==",
    }
    with trio.fail_after(1):
        answer = await scene.client.call("GET", RESPONSES, headers=upgrade)
    assert answer.status == 404
    assert answer.json["error"]["code"] == "not_found"
