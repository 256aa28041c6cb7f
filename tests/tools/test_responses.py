"""Responses with tools of the client's, through OpenAI's SDK."""

import json

import pytest

from tests.tools.support import RESPONSE_FUNCTIONS, call, one_call, run, two_calls

pytestmark = [pytest.mark.real, pytest.mark.daemon]


def whole(gpt, **request):
    """A response."""
    return gpt.responses.create(**{"tools": RESPONSE_FUNCTIONS, **request})


def streamed(gpt, **request):
    """The response that a stream adds up to, as the SDK adds it up."""
    with gpt.responses.stream(**{"tools": RESPONSE_FUNCTIONS, **request}) as stream:
        return stream.get_final_response()


def answered(response):
    """The results of the calls in a response."""
    return [
        {
            "type": "function_call_output",
            "call_id": item.call_id,
            "output": run(item.name, json.loads(item.arguments)),
        }
        for item in response.output
        if item.type == "function_call"
    ]


@pytest.mark.parametrize("ask", [whole, streamed])
@pytest.mark.parametrize("agent", ["claude", "codex"])
def test_a_function_is_called_and_its_output_goes_on_with_the_turn(gpt, model, agent, ask):
    mark = f"responses of {agent} {ask.__name__}"
    first = ask(gpt, model=agent, input=f"{one_call(agent)} {mark}")
    assert first.status == "completed"
    assert [item.type for item in first.output] == ["message", "function_call"]
    second = ask(gpt, model=agent, previous_response_id=first.id, input=answered(first))
    assert second.output_text.startswith("tool-result:")
    assert "5" in second.output_text
    assert second.id != first.id
    assert [one["kind"] for one in model.of(mark)] == ["turn", "tool_result"]
    # Both can be looked at, and gone on from.
    assert gpt.responses.retrieve(first.id).output[1].call_id == first.output[1].call_id
    assert gpt.responses.retrieve(second.id).output_text == second.output_text
    third = ask(gpt, model=agent, previous_response_id=second.id, input=f"[[say:done]] {mark}")
    assert third.output_text == "done"


@pytest.mark.parametrize("ask", [whole, streamed])
def test_the_whole_history_may_be_sent_instead(gpt, model, ask):
    mark = f"whole history {ask.__name__}"
    said = [{"role": "user", "content": f"{two_calls('codex')} {mark}"}]
    first = ask(gpt, model="codex", input=said)
    said += [*first.output, *answered(first)]
    second = ask(
        gpt, model="codex", input=[item if isinstance(item, dict) else item.model_dump() for item in said]
    )
    assert second.output_text == "tool-result: 5\n5"
    assert [one["kind"] for one in model.of(mark)] == ["turn", "tool_result"]


@pytest.mark.parametrize("ask", [whole, streamed])
def test_a_custom_tool_takes_a_text(gpt, ask):
    tools = [{"type": "custom", "name": "patch", "description": "applies a patch"}]
    prompt = f"{call('claude', 'patch', {'input': '*** Begin'})} custom {ask.__name__}"
    first = ask(gpt, model="claude", input=prompt, tools=tools)
    item = first.output[-1]
    assert (item.type, item.name, item.input) == ("custom_tool_call", "patch", "*** Begin")
    output = {"type": "custom_tool_call_output", "call_id": item.call_id, "output": "applied"}
    second = ask(gpt, model="claude", previous_response_id=first.id, input=[output], tools=tools)
    assert second.output_text == "tool-result: applied"


def test_a_response_that_waits_for_its_tools_is_told_again_as_it_was(gpt):
    first = whole(gpt, model="claude", input=f"{one_call('claude')} told again")
    told = list(gpt.responses.retrieve(first.id, stream=True))
    assert told[-1].type == "response.completed"
    assert told[-1].response.output == first.output
