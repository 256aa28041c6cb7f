"""Messages with tools of the client's, through Anthropic's SDK."""

import anthropic
import pytest

from tests.tools.support import CLIENT_TOOLS, one_call, run, two_calls

pytestmark = [pytest.mark.real, pytest.mark.daemon]


def whole(sonnet, **request):
    """A message."""
    return sonnet.messages.create(max_tokens=256, tools=CLIENT_TOOLS, **request)


def streamed(sonnet, **request):
    """The message that a stream adds up to, as the SDK adds it up."""
    with sonnet.messages.stream(max_tokens=256, tools=CLIENT_TOOLS, **request) as stream:
        return stream.get_final_message()


def answered(message, does=run, **more):
    """The results of the calls in a message."""
    return [
        {"type": "tool_result", "tool_use_id": block.id, "content": does(block.name, block.input), **more}
        for block in message.content
        if block.type == "tool_use"
    ]


def text(message):
    return "".join(block.text for block in message.content if block.type == "text")


@pytest.mark.parametrize(
    ("agent", "ask"),
    [("claude", whole), ("claude", streamed), ("codex", streamed), ("gemini", whole)],
)
def test_a_tool_is_called_and_its_result_goes_on_with_the_turn(sonnet, model, agent, ask):
    mark = f"messages of {agent} {ask.__name__}"
    said = [{"role": "user", "content": f"{one_call(agent)} {mark}"}]
    message = ask(sonnet, model=agent, messages=said)
    assert message.stop_reason == "tool_use"
    [asked] = [block for block in message.content if block.type == "tool_use"]
    assert (asked.name, asked.input) == ("add", {"a": 2, "b": 3})
    said += [
        {"role": "assistant", "content": message.content},
        {"role": "user", "content": answered(message)},
    ]
    message = ask(sonnet, model=agent, messages=said)
    assert message.stop_reason == "end_turn"
    assert text(message).startswith("tool-result:")
    assert "5" in text(message)
    assert [one["kind"] for one in model.of(mark)] == ["turn", "tool_result"]


@pytest.mark.parametrize("ask", [whole, streamed])
def test_two_calls_at_once_one_of_which_fails(sonnet, ask):
    said = [{"role": "user", "content": f"{two_calls('claude')} two {ask.__name__}"}]
    message = ask(sonnet, model="claude", messages=said)
    results = answered(message)
    results[1] |= {"is_error": True, "content": [{"type": "text", "text": "out of order"}]}
    said += [{"role": "assistant", "content": message.content}, {"role": "user", "content": results}]
    message = ask(sonnet, model="claude", messages=said)
    assert sorted(text(message).split()) == sorted(["tool-result:", "5", "out", "of", "order"])


@pytest.mark.parametrize("stream", [False, True])
def test_the_sdks_own_tool_runner_runs_the_tools(sonnet, stream):
    @anthropic.beta_tool
    def add(a: int, b: int) -> str:
        """Adds."""
        return str(a + b)

    said = [{"role": "user", "content": f"{one_call('claude')} by the runner, streamed: {stream}"}]
    runner = sonnet.beta.messages.tool_runner(
        model="claude", max_tokens=256, tools=[add], messages=said, stream=stream
    )
    assert text(runner.until_done()) == "tool-result: 5"


@pytest.mark.parametrize(
    ("request_", "param"),
    [
        ({"model": "echo"}, "tools"),
        ({"tool_choice": {"type": "tool", "name": "absent"}}, "tool_choice"),
        ({"tool_choice": {"type": "tool"}}, "tool_choice"),
        ({"tools": [{"name": "add"}]}, "tools[0].input_schema"),
        ({"tools": [{"name": "a b", "input_schema": {}}]}, "tools[0].name"),
    ],
)
def test_what_cannot_be_is_refused_by_name(sonnet, request_, param):
    said = [{"role": "user", "content": "hi"}]
    asked = {"model": "claude", "max_tokens": 9, "tools": CLIENT_TOOLS, "messages": said, **request_}
    with pytest.raises(anthropic.BadRequestError, match=param.replace("[", r"\[")):
        sonnet.messages.create(**asked)
