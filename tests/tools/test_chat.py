"""Chat completions with tools of the client's, through OpenAI's SDK."""

import json

import pytest

from tests.tools.support import AGENTS, FUNCTIONS, one_call, run, two_calls

pytestmark = [pytest.mark.real, pytest.mark.daemon]


def streamed(gpt, **request):
    """The message that a stream adds up to, as clients add it up, and why it ended."""
    message, finish, calls = {"role": "assistant", "content": ""}, None, {}
    for chunk in gpt.chat.completions.create(stream=True, **request):
        choice = chunk.choices[0]
        finish = choice.finish_reason or finish
        message["content"] += choice.delta.content or ""
        for piece in choice.delta.tool_calls or ():
            if piece.id:
                function = {"name": piece.function.name, "arguments": ""}
                calls[piece.index] = {"id": piece.id, "type": piece.type, "function": function}
            calls[piece.index]["function"]["arguments"] += piece.function.arguments
    if calls:
        message["tool_calls"] = [calls[index] for index in sorted(calls)]
    return message, finish


def whole(gpt, **request):
    """The same from one piece."""
    choice = gpt.chat.completions.create(**request).choices[0]
    return choice.message.model_dump(exclude_none=True), choice.finish_reason


def answered(message, does=run):
    """The results of the calls in a message."""
    return [
        {"role": "tool", "tool_call_id": each["id"], "content": does(name, json.loads(given))}
        for each in message["tool_calls"]
        for name, given in [(each["function"]["name"], each["function"]["arguments"])]
    ]


@pytest.mark.parametrize("ask", [whole, streamed])
@pytest.mark.parametrize("agent", AGENTS)
def test_a_tool_is_called_run_by_the_client_and_its_result_used_in_the_same_turn(
    gpt, model, daemon, agent, ask
):
    said = [{"role": "user", "content": f"{one_call(agent)} sum of {agent} {ask.__name__}"}]
    message, finish = ask(gpt, model=agent, messages=said, tools=FUNCTIONS)
    assert finish == "tool_calls"
    assert message["content"].startswith("calling")
    [asked] = message["tool_calls"]
    assert asked["function"]["name"] == "add"
    assert json.loads(asked["function"]["arguments"]) == {"a": 2, "b": 3}
    said += [message, *answered(message)]
    message, finish = ask(gpt, model=agent, messages=said, tools=FUNCTIONS)
    assert finish == "stop"
    assert message["content"].startswith("tool-result:")
    assert "5" in message["content"]
    assert "tool_calls" not in message
    # The model was asked once, and went on: nothing was told to it again.
    assert [one["kind"] for one in model.of(f"sum of {agent} {ask.__name__}")] == ["turn", "tool_result"]
    # And the chat goes on with the same agent, which is sent the new message alone.
    said += [message, {"role": "user", "content": f"[[say:done]] with {agent} {ask.__name__}"}]
    message, _ = ask(gpt, model=agent, messages=said, tools=FUNCTIONS)
    assert message["content"] == "done"
    assert model.of(f"with {agent} {ask.__name__}")[-1]["text"].strip().startswith("[[say:done]]")


@pytest.mark.parametrize("ask", [whole, streamed])
@pytest.mark.parametrize("agent", ["claude", "codex", "opencode"])
def test_calls_that_the_model_makes_at_once_go_out_at_once(gpt, agent, ask):
    said = [{"role": "user", "content": f"{two_calls(agent)} at once"}]
    message, finish = ask(gpt, model=agent, messages=said, tools=FUNCTIONS)
    assert (len(message["tool_calls"]), finish) == (2, "tool_calls")
    said += [message, *answered(message)]
    message, _ = ask(gpt, model=agent, messages=said, tools=FUNCTIONS)
    assert message["content"] == "tool-result: 5\n5"
