"""Responses with tools of the client's, through OpenAI's SDK."""

import json

import pytest

from tests.support.daemon import wait_until
from tests.tools.support import RESPONSE_FUNCTIONS, call, one_call, run, two_calls
from tests.tools.test_held import ended

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
    [output] = gpt.responses.input_items.list(second.id)
    assert (output.type, output.call_id, output.output) == (
        "function_call_output",
        first.output[1].call_id,
        "5",
    )
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


def called(gpt, response):
    """The response in the background, once it has called its tools."""
    wait_until(lambda: gpt.responses.retrieve(response.id).output[1:], 10)
    return gpt.responses.retrieve(response.id)


def test_a_response_in_the_background_goes_on_with_the_same_turn(gpt, model):
    first = called(
        gpt, whole(gpt, model="claude", input=f"{one_call('claude')} in the back", background=True)
    )
    assert (first.status, first.background) == ("completed", True)
    second = whole(gpt, model="claude", previous_response_id=first.id, input=answered(first), background=True)
    wait_until(lambda: gpt.responses.retrieve(second.id).status == "completed", 5)
    assert gpt.responses.retrieve(second.id).output_text == "tool-result: 5"
    assert gpt.responses.retrieve(second.id).previous_response_id == first.id
    assert gpt.responses.retrieve(first.id).previous_response_id is None
    assert [one["kind"] for one in model.of("in the back")] == ["turn", "tool_result"]


def test_a_background_response_whose_calls_were_told_in_a_stream_goes_on_likewise(gpt, model):
    first = whole(gpt, model="codex", input=f"{one_call('codex')} told in a stream", background=True)
    *_, last = gpt.responses.retrieve(first.id, stream=True)
    second = whole(gpt, model="codex", previous_response_id=first.id, input=answered(last.response))
    assert second.output_text == "tool-result: 5"


def test_a_turn_that_waited_for_its_tools_can_go_on_in_the_background(gpt, model):
    first = whole(gpt, model="claude", input=f"[[slow:400]]{one_call('claude')} to the back")
    second = whole(gpt, model="claude", previous_response_id=first.id, input=answered(first), background=True)
    wait_until(lambda: gpt.responses.retrieve(second.id).status != "in_progress", 10)
    assert gpt.responses.retrieve(second.id).output_text == "tool-result: 5"


def some(first):
    return {"input": answered(first)[:1]}


def others(first):
    return {"input": [{**answered(first)[0], "call_id": "call_of_nobody"}]}


def of_another_agent(first):
    return {"input": answered(first), "model": "codex"}


def text(first):
    return {"input": "never mind"}


@pytest.mark.parametrize("more", [some, others, of_another_agent, text])
def test_what_does_not_answer_the_calls_is_told_to_a_new_agent_with_all_that_was_said(
    gpt, daemon, model, more
):
    before = len(ended(daemon, "cancelled"))
    mark = f"instead of results {more.__name__}"
    first = whole(gpt, model="claude", input=f"{two_calls('claude')} {mark}")
    second = whole(gpt, **{"model": "claude", "previous_response_id": first.id, **more(first)})
    told = model.of(mark)[-1]["text"]
    assert f"[call {first.output[1].call_id} of add: " in told
    assert f"{mark}</user>" in told
    assert told.endswith("never mind") == (more is text)
    # Nobody waits for the first one any more.
    wait_until(lambda: len(ended(daemon, "cancelled")) > before, 3)
    assert gpt.responses.retrieve(first.id).output == first.output
    gpt.responses.cancel(second.id)


def test_a_response_in_the_midst_of_a_turn_can_be_gone_on_from_later(gpt, model):
    first = whole(gpt, model="claude", input=f"{one_call('claude')} branched off")
    second = whole(gpt, model="claude", previous_response_id=first.id, input=answered(first))
    whole(gpt, model="claude", previous_response_id=first.id, input="another way")
    told = model.of("branched off")[-1]["text"]
    assert "[call " in told
    assert "tool-result" not in told
    whole(gpt, model="codex", previous_response_id=second.id, input="and on")
    assert "tool-result" in model.of("branched off")[-1]["text"]
