"""Chat completions, whole: what is asked reaches the agent, and its answer has the SDK's shape."""

import openai
import pytest

from tests.openai.support import CHAT, PICTURE, ask, content


def test_an_answer_has_all_that_the_sdks_types_need(scene):
    answer = scene.chat(model="echo", messages=ask("three little words"))
    assert answer.id.startswith("chatcmpl-")
    assert (answer.object, answer.model) == ("chat.completion", "echo")
    [choice] = answer.choices
    assert (choice.index, choice.finish_reason, choice.logprobs) == (0, "stop", None)
    assert (choice.message.role, choice.message.content) == ("assistant", "three little words")
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (3, 3)
    assert answer.usage.total_tokens == 6
    assert answer.usage.prompt_tokens_details.cached_tokens == 0
    assert answer.usage.completion_tokens_details.reasoning_tokens == 0


async def test_the_raw_answer_names_its_run_session_and_request(scene):
    answer = await scene.client.call("POST", CHAT, {"model": "echo", "messages": ask("hello")})
    assert answer.status == 200
    assert answer.headers["x-request-id"].startswith("req_")
    run = await scene.client.get(f"/api/v1/runs/{answer.headers['x-clinvoker-run']}")
    assert run.json["session_id"] == answer.headers["x-clinvoker-session"]
    assert answer.json["id"].removeprefix("chatcmpl-") in answer.headers["x-clinvoker-run"]


@pytest.mark.parametrize("role", ["system", "developer"])
def test_system_messages_reach_an_agent_that_has_no_place_for_them(scene, role):
    messages = [{"role": role, "content": "be <brief>"}, *ask("hello")]
    expected = "<instructions>\nbe &lt;brief&gt;\n</instructions>\n\nhello"
    assert content(scene.chat(model="scripted", messages=messages)) == expected


def test_content_may_come_in_parts(scene):
    parts = [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]
    assert content(scene.chat(model="scripted", messages=[{"role": "user", "content": parts}])) == "one\ntwo"


def test_what_an_agent_has_no_use_for_is_ignored(scene):
    answer = scene.chat(
        model="echo",
        messages=ask("hello"),
        temperature=0.1,
        top_p=0.9,
        seed=7,
        presence_penalty=1,
        frequency_penalty=1,
        logit_bias={"1": 1},
        user="me",
        max_tokens=100,
        max_completion_tokens=100,
        reasoning_effort="low",
        service_tier="auto",
        parallel_tool_calls=True,
        store=False,
        metadata={"a": "b"},
        response_format={"type": "text"},
        tool_choice="none",
        tools=[{"type": "function", "function": {"name": "f"}}],
        extra_body={"something_new": {"of": ["next", "month"]}, "n": None, "stop": None, "stream": None},
    )
    assert content(answer) == "hello"


def test_several_answers_are_several_turns(scene):
    before = len(scene.daemon.logged("run ended"))
    answer = scene.chat(model="echo", messages=ask("one two"), n=3)
    assert [(choice.index, choice.message.content) for choice in answer.choices] == [
        (index, "one two") for index in range(3)
    ]
    assert answer.usage.completion_tokens == 6
    assert len(scene.daemon.logged("run ended")) == before + 3


def test_several_answers_fail_together(scene):
    with pytest.raises(openai.InternalServerError, match="so it is"):
        scene.chat(model="scripted", messages=ask("{{error:1,so it is}}"), n=2)


async def test_a_session_gives_one_answer(scene):
    body = {"model": "echo", "messages": ask("hello"), "n": 2}
    answer = await scene.client.call("POST", CHAT, body, headers={"x-clinvoker-session": "ses_any"})
    assert (answer.status, answer.json["error"]["param"]) == (400, "n")


def test_an_answer_is_cut_at_a_stop_sequence_and_its_agent_ended(scene):
    answer = scene.chat(
        model="scripted", messages=ask("one two STOP three{{wait:60}}"), stop=["STOP", "other"]
    )
    assert content(answer) == "one two "
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage.completion_tokens == 2


def test_a_stop_sequence_that_never_comes_changes_nothing(scene):
    assert content(scene.chat(model="scripted", messages=ask("one two ST"), stop="STOP")) == "one two ST"


def test_a_tool_round_that_is_over_is_told_as_text(scene):
    call = {"id": "c1", "type": "function", "function": {"name": "add", "arguments": "{}"}}
    messages = [
        *ask("use it"),
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": "42"},
    ]
    told = content(scene.chat(model="scripted", messages=messages))
    assert "[call c1 of add: {}]" in told
    assert told.endswith("[result of the call c1]\n42")


def test_a_function_that_was_called_the_old_way_is_told_likewise(scene):
    messages = [
        *ask("use it"),
        {"role": "assistant", "content": "so", "function_call": {"name": "add", "arguments": "{}"}},
        {"role": "function", "name": "add", "content": "42"},
    ]
    told = content(scene.chat(model="scripted", messages=messages))
    assert "so\n[call of add: {}]" in told
    assert told.endswith("[result of the call of add]\n42")


@pytest.mark.parametrize("modalities", [None, [], ["text"]])
def test_text_may_be_asked_for_as_such(scene, modalities):
    assert content(scene.chat(model="echo", messages=ask("hello"), modalities=modalities)) == "hello"


@pytest.mark.parametrize(
    ("header", "value"),
    [
        ("x-clinvoker-workdir", "relative"),
        ("x-clinvoker-approval-mode", "perhaps"),
        ("x-clinvoker-sandbox-mode", "none"),
    ],
)
async def test_our_headers_are_checked(scene, header, value):
    body = {"model": "echo", "messages": ask("hello")}
    answer = await scene.client.call("POST", CHAT, body, headers={header: value})
    assert answer.status == 400
    assert answer.json["error"]["param"] == header


async def test_an_agent_works_where_the_header_says(scene, tmp_path):
    body = {"model": "echo", "messages": ask("hello")}
    answer = await scene.client.call("POST", CHAT, body, headers={"x-clinvoker-workdir": str(tmp_path)})
    session = await scene.client.get(f"/api/v1/sessions/{answer.headers['x-clinvoker-session']}")
    assert session.json["session"]["workdir"] == str(tmp_path)


LOOK = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PICTURE}"}}


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"messages": []}, "messages"),
        ({"messages": None}, "messages"),
        ({"messages": ask("a", "b")}, "messages"),
        ({"messages": [{"role": "user", "content": ""}]}, "messages"),
        ({"messages": [{"role": "robot", "content": "a"}]}, "messages[0].role"),
        ({"messages": [{"role": "user", "content": "a\0"}]}, "messages[0].content"),
        ({"messages": [{"role": "system", "content": [LOOK]}, *ask("a")]}, "messages[0].content"),
        ({"messages": ask("a"), "model": ""}, "model"),
        ({"messages": ask("a"), "n": 0}, "n"),
        ({"messages": ask("a"), "n": 17}, "n"),
        ({"messages": ask("a"), "stop": 1}, "stop"),
        ({"messages": ask("a"), "tools": [{"type": "function", "function": {"name": "f"}}]}, "tools"),
        ({"messages": ask("a"), "functions": [{"name": "f"}]}, "functions"),
        ({"messages": ask("a"), "modalities": ["text", "audio"]}, "modalities"),
        ({"messages": ask("a"), "response_format": {"type": "json_schema"}}, "response_format.json_schema"),
        (
            {
                "messages": ask("a"),
                "response_format": {"type": "json_schema", "json_schema": {"schema": {"type": 1}}},
            },
            "response_format.json_schema.schema",
        ),
    ],
)
async def test_a_request_that_cannot_be_honoured_is_refused_by_name(scene, fields, param):
    answer = await scene.client.call("POST", CHAT, {"model": "echo", **fields})
    assert answer.status == 400
    error = answer.json["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    assert (error["param"], error["type"]) == (param, "invalid_request_error")


@pytest.mark.parametrize(
    ("part", "param"),
    [
        ({"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}, "image_url"),
        ({"type": "image_url", "image_url": {"url": "http://127.0.0.1/a.png"}}, "image_url"),
        ({"type": "image_url", "image_url": {"url": "data:image/png;base64,not base64!"}}, "image_url"),
        ({"type": "image_url", "image_url": {"url": f"data:image/tiff;base64,{PICTURE}"}}, "image_url"),
        ({"type": "image_url"}, "type"),
        ({"type": "input_audio", "input_audio": {"data": "", "format": "wav"}}, "type"),
    ],
)
async def test_a_part_that_no_agent_takes_is_refused_by_name(scene, part, param):
    messages = [{"role": "user", "content": [{"type": "text", "text": "look"}, part]}]
    answer = await scene.client.call("POST", CHAT, {"model": "echo", "messages": messages})
    assert answer.status == 400
    assert answer.json["error"]["param"] == f"messages[0].content[1].{param}"
