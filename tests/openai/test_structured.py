"""Answers that must satisfy a schema, from an agent that can only be told so."""

import json

import openai
import pytest

from tests.openai.support import NUMBER, as_format, ask, content, read

# The scripted agent repeats what it is told: each of these prompts ends in what makes the whole answer wrong or right.


def test_an_agent_is_told_the_schema_and_its_answer_is_corrected_once_and_refused_then(scene):
    before = len(scene.daemon.logged("run ended"))
    with pytest.raises(openai.APIStatusError, match="does not satisfy the schema") as failed:
        scene.chat(model="scripted", messages=ask("no json"), response_format=as_format(NUMBER))
    assert failed.value.status_code == 502
    assert failed.value.response.headers["x-should-retry"] == "false"
    assert len(scene.daemon.logged("run ended")) == before + 2


@pytest.mark.parametrize("response_format", [as_format(NUMBER), {"type": "json_object"}])
def test_an_answer_that_satisfies_the_schema_is_passed_on(answering, response_format):
    answer = answering.chat(model="right", messages=ask("a number"), response_format=response_format)
    assert json.loads(content(answer)) == {"n": 7}


def test_an_answer_in_a_fence_is_taken_out(answering):
    answer = answering.chat(model="fenced", messages=ask("a number"), response_format=as_format(NUMBER))
    assert content(answer) == '{"n": 7}'


def test_a_corrected_answer_is_the_answer(answering):
    answer = answering.chat(model="second", messages=ask("a number"), response_format=as_format(NUMBER))
    assert content(answer) == '{"n": 7}'
    assert answer.usage.total_tokens >= 0


def test_a_stream_has_the_right_answer_only(answering):
    stream = answering.chat(
        model="second", messages=ask("a number"), response_format=as_format(NUMBER), stream=True
    )
    assert read(stream)[0] == '{"n": 7}'


@pytest.mark.parametrize("model", ["second", "fenced"])
def test_the_chat_goes_on_in_the_session_whose_answer_was_put_right(answering, model):
    first = answering.sdk.chat.completions.with_raw_response.create(
        model=model, messages=ask("go on"), response_format=as_format(NUMBER)
    )
    again = answering.sdk.chat.completions.with_raw_response.create(
        model=model, messages=ask("go on", content(first.parse()), "and on")
    )
    assert again.headers["x-clinvoker-session"] == first.headers["x-clinvoker-session"]


def test_the_sdks_own_parser_takes_it(answering):
    import pydantic  # noqa: PLC0415 - the SDK brings it

    class Number(pydantic.BaseModel):
        n: int

    answer = answering.sdk.chat.completions.parse(
        model="right", messages=ask("a number"), response_format=Number
    )
    assert answer.choices[0].message.parsed == Number(n=7)


def test_a_schema_nested_too_deeply_is_refused(scene):
    deep = NUMBER
    for _ in range(150):
        deep = {"type": "object", "properties": {"a": deep}}
    with pytest.raises(openai.BadRequestError, match="nested too deeply"):
        scene.chat(model="scripted", messages=ask("deep"), response_format=as_format(deep))
