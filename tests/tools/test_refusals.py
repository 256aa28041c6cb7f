"""A model that will not answer: an end like any other in each of OpenAI's APIs, whole and streamed."""

import pytest

from tests.openai.support import NUMBER, as_format

pytestmark = [pytest.mark.real, pytest.mark.daemon]

each_agent = pytest.mark.parametrize("agent", ["claude", "codex"])


def said(agent, how):
    return f"[[refuse]] {agent} {how}"


@each_agent
def test_a_chat_completion_ends_by_the_content_filter(gpt, agent):
    def ask(how, **fields):
        messages = [{"role": "user", "content": said(agent, how)}]
        return gpt.chat.completions.create(model=agent, messages=messages, **fields)

    [choice] = ask("chat").choices
    assert choice.finish_reason == "content_filter"
    *_, last = ask("chunks", stream=True)
    assert last.choices[0].finish_reason == "content_filter"


def test_a_legacy_completion_does_too(gpt):
    [choice] = gpt.completions.create(model="codex", prompt=said("codex", "legacy")).choices
    assert choice.finish_reason == "content_filter"
    *_, last = gpt.completions.create(model="codex", prompt=said("codex", "pieces"), stream=True)
    assert last.choices[0].finish_reason == "content_filter"


def test_no_schema_is_held_against_it(gpt):
    answer = gpt.chat.completions.create(
        model="opencode",
        messages=[{"role": "user", "content": said("opencode", "by a schema")}],
        response_format=as_format(NUMBER),
    )
    assert answer.choices[0].finish_reason == "content_filter"


@each_agent
def test_a_response_is_incomplete_and_stays_so(gpt, agent):
    whole = gpt.responses.create(model=agent, input=said(agent, "response"))
    with gpt.responses.stream(model=agent, input=said(agent, "events")) as stream:
        *_, last = stream
    assert last.type == "response.incomplete"
    for response in (whole, last.response, gpt.responses.retrieve(whole.id)):
        assert (response.status, response.incomplete_details.reason) == ("incomplete", "content_filter")
        assert response.error is None
    again = gpt.responses.create(model=agent, previous_response_id=whole.id, input="[[say:all right]]")
    assert again.output_text == "all right"
