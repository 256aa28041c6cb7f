"""The legacy completions."""

import openai
import pytest


def test_a_prompt_is_completed(scene):
    answer = scene.sdk.completions.create(model="echo", prompt="a b c")
    assert answer.id.startswith("cmpl-")
    assert answer.object == "text_completion"
    assert [(choice.index, choice.text, choice.finish_reason) for choice in answer.choices] == [
        (0, "a b c", "stop")
    ]
    assert answer.usage.completion_tokens == 3


@pytest.mark.parametrize("usage", [True, False])
def test_a_stream_has_text_in_its_choices(scene, usage):
    stream = scene.sdk.completions.create(
        model="echo", prompt=["a b c"], stream=True, stream_options={"include_usage": usage}
    )
    chunks = list(stream)
    texts = [chunk.choices[0].text for chunk in chunks if chunk.choices]
    assert texts == ["a", " b", " c", ""]
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == "stop"
    assert (chunks[-1].usage is not None) is usage
    assert (len(chunks[-1].choices) == 0) is usage


def test_a_stream_that_fails_raises(scene):
    with pytest.raises(openai.APIError, match="no more"):
        list(scene.sdk.completions.create(model="scripted", prompt="one {{error:1,no more}}", stream=True))


def test_the_prompt_is_repeated_where_it_was_asked_for(scene):
    answer = scene.sdk.completions.create(model="scripted", prompt="one", echo=True, n=2, stop="x")
    assert [choice.text for choice in answer.choices] == ["oneone", "oneone"]


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"prompt": "a", "suffix": "z"}, "suffix"),
        ({"prompt": ["a", "b"]}, "prompt"),
        ({"prompt": ""}, "prompt"),
    ],
)
def test_what_cannot_be_honoured_is_refused_by_name(scene, fields, param):
    with pytest.raises(openai.BadRequestError) as refused:
        scene.sdk.completions.create(model="echo", **fields)
    assert refused.value.param == param
