"""Chat completions with tools of the client's, through OpenAI's SDK."""

import json

import openai
import pydantic
import pytest

from clinvoker.mcp.server import ELSEWHERE
from tests.tools.support import AGENTS, FUNCTIONS, KEY, call, one_call, run, two_calls

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


@pytest.mark.parametrize("agent", AGENTS)
def test_a_tool_is_called_run_by_the_client_and_its_result_used_in_the_same_turn(gpt, model, agent):
    said = [{"role": "user", "content": f"{one_call(agent)} sum of {agent}"}]
    message, finish = streamed(gpt, model=agent, messages=said, tools=FUNCTIONS)
    assert finish == "tool_calls"
    assert message["content"].startswith("calling")
    [asked] = message["tool_calls"]
    assert asked["function"]["name"] == "add"
    assert json.loads(asked["function"]["arguments"]) == {"a": 2, "b": 3}
    said += [message, *answered(message)]
    message, finish = streamed(gpt, model=agent, messages=said, tools=FUNCTIONS)
    assert finish == "stop"
    assert message["content"].startswith("tool-result:")
    assert "5" in message["content"]
    assert "tool_calls" not in message
    # The model was asked once, and went on: nothing was told to it again.
    assert [one["kind"] for one in model.of(f"sum of {agent}")] == ["turn", "tool_result"]
    # And the chat goes on with the same agent, which is sent the new message alone.
    said += [message, {"role": "user", "content": f"[[say:done]] with {agent}"}]
    message, _ = streamed(gpt, model=agent, messages=said, tools=FUNCTIONS)
    assert message["content"] == "done"
    assert model.of(f"with {agent}")[-1]["text"].strip().startswith("[[say:done]]")


class Add(pydantic.BaseModel):
    """Adds."""

    a: int
    b: int


def parsed(gpt, **request):
    """The message as the SDK's own parser makes it, with the calls' arguments as what they are meant to be."""
    return gpt.chat.completions.parse(**request).choices[0].message


def accumulated(gpt, **request):
    """The same by the SDK's own helper for streams."""
    with gpt.chat.completions.stream(**request) as stream:
        return stream.get_final_completion().choices[0].message


@pytest.mark.parametrize("ask", [parsed, accumulated])
def test_the_sdks_own_helpers_take_the_calls(gpt, ask):
    tools = [openai.pydantic_function_tool(Add, name="add")]
    said = [{"role": "user", "content": f"{one_call('claude')} {ask.__name__}"}]
    message = ask(gpt, model="claude", messages=said, tools=tools)
    [asked] = message.tool_calls
    assert asked.function.parsed_arguments == Add(a=2, b=3)
    said += [message, {"role": "tool", "tool_call_id": asked.id, "content": "5"}]
    assert ask(gpt, model="claude", messages=said, tools=tools).content == "tool-result: 5"


@pytest.mark.parametrize("ask", [whole, streamed])
@pytest.mark.parametrize("agent", ["claude", "codex"])
def test_calls_that_the_model_makes_at_once_go_out_at_once(gpt, agent, ask):
    said = [{"role": "user", "content": f"{two_calls(agent)} at once"}]
    message, finish = ask(gpt, model=agent, messages=said, tools=FUNCTIONS)
    assert (len(message["tool_calls"]), finish) == (2, "tool_calls")
    said += [message, *answered(message)]
    message, _ = ask(gpt, model=agent, messages=said, tools=FUNCTIONS)
    assert message["content"].replace("\u200b", "") == "tool-result: 5\n5"


def test_codex_calls_from_code_as_its_own_models_do(gpt):
    calls = "tools.client_add({a: 2, b: 3}), tools.client_subtract({a: 9, b: 4})"
    code = json.dumps(f"text(await Promise.all([{calls}]))")
    said = [{"role": "user", "content": f"[[tool:functions/exec {code}]] from code"}]
    message, finish = streamed(gpt, model="codex", messages=said, tools=FUNCTIONS)
    assert (len(message["tool_calls"]), finish) == (2, "tool_calls")
    said += [message, *answered(message)]
    message, _ = streamed(gpt, model="codex", messages=said, tools=FUNCTIONS)
    assert message["content"].endswith('["5","5"]')


@pytest.mark.parametrize("agent", AGENTS)
def test_a_tool_that_the_user_asks_for_in_words_is_called(gpt, agent):
    said = [{"role": "user", "content": f"Please add 2 and 3, {agent}"}]
    message, _ = streamed(gpt, model=agent, messages=said, tools=FUNCTIONS)
    [asked] = message["tool_calls"]
    assert (asked["function"]["name"], json.loads(asked["function"]["arguments"])) == (
        "add",
        {"a": 2, "b": 3},
    )
    said += [message, *answered(message)]
    assert "5" in streamed(gpt, model=agent, messages=said, tools=FUNCTIONS)[0]["content"]


def test_a_failing_tool_is_the_agents_to_deal_with(gpt):
    said = [{"role": "user", "content": f"{one_call('claude')} fails"}]
    message, _ = whole(gpt, model="claude", messages=said, tools=FUNCTIONS)
    said += [message, *answered(message, lambda *_: "Error: out of order")]
    message, finish = whole(gpt, model="claude", messages=said, tools=FUNCTIONS)
    assert (message["content"], finish) == ("tool-result: Error: out of order", "stop")


@pytest.mark.parametrize("agent", ["claude", "codex"])
def test_a_turn_goes_on_as_often_as_its_agent_calls(gpt, model, agent):
    said = [{"role": "user", "content": one_call(agent) * 3 + f"three rounds of {agent}"}]
    for _ in range(3):
        message, finish = streamed(gpt, model=agent, messages=said, tools=FUNCTIONS)
        assert finish == "tool_calls"
        said += [message, *answered(message)]
    message, finish = streamed(gpt, model=agent, messages=said, tools=FUNCTIONS)
    assert (message["content"], finish) == ("tool-result: 5\n5\n5", "stop")
    assert len(model.of(f"three rounds of {agent}")) == 4


def test_one_call_goes_out_at_a_time_where_the_client_wants_it_so(gpt):
    said = [{"role": "user", "content": f"{two_calls('claude')} one by one"}]
    request = {"model": "claude", "tools": FUNCTIONS, "parallel_tool_calls": False}
    for name in ("add", "subtract"):
        message, _ = whole(gpt, messages=said, **request)
        assert [each["function"]["name"] for each in message["tool_calls"]] == [name]
        said += [message, *answered(message)]
    message, _ = whole(gpt, messages=said, **request)
    assert message["content"] == "tool-result: 5\n5"


def test_what_the_user_says_beside_a_result_reaches_the_agent_with_it(gpt):
    said = [{"role": "user", "content": f"{one_call('codex')} and more"}]
    message, _ = whole(gpt, model="codex", messages=said, tools=FUNCTIONS)
    said += [message, *answered(message), {"role": "user", "content": "never mind"}]
    message, _ = whole(gpt, model="codex", messages=said, tools=FUNCTIONS)
    assert message["content"] == "tool-result: 5\n\nnever mind"


def test_a_tool_that_takes_a_text_is_called_with_one(gpt):
    tools = [{"type": "custom", "custom": {"name": "patch", "description": "a patch"}}]
    said = [{"role": "user", "content": f"{call('claude', 'patch', {'input': '*** Begin'})} freely"}]
    message, finish = whole(gpt, model="claude", messages=said, tools=tools)
    assert finish == "tool_calls"
    [asked] = message["tool_calls"]
    assert (asked["type"], asked["custom"]) == ("custom", {"name": "patch", "input": "*** Begin"})
    said += [message, {"role": "tool", "tool_call_id": asked["id"], "content": "applied"}]
    assert whole(gpt, model="claude", messages=said, tools=tools)[0]["content"] == "tool-result: applied"


def test_a_long_description_reaches_the_model_whole(gpt, model):
    words = " ".join(f"word{number}" for number in range(3000))
    tools = [{"type": "function", "function": {**FUNCTIONS[0]["function"], "description": words}}]
    said = [{"role": "user", "content": "[[say:ok]] at length"}]
    whole(gpt, model="claude", messages=said, tools=tools)
    [offered] = [
        tool for tool in model.of("at length")[-1]["body"]["tools"] if tool["name"] == "mcp__clinvoker__add"
    ]
    told = offered["description"].replace(ELSEWHERE, "") + offered["input_schema"]["description"]
    assert told == words


def test_a_demand_to_call_a_tool_is_told_to_the_agent(gpt, model):
    said = [{"role": "user", "content": "[[say:ok]] demanded"}]
    choice = {"type": "function", "function": {"name": "add"}}
    whole(gpt, model="codex", messages=said, tools=FUNCTIONS, tool_choice=choice)
    assert model.of("demanded")[-1]["text"].endswith("You must call your tool add before you answer.")


def test_tools_that_must_not_be_called_are_not_offered(gpt, model):
    said = [{"role": "user", "content": "[[say:ok]] not offered"}]
    whole(gpt, model="claude", messages=said, tools=FUNCTIONS, tool_choice="none")
    whole(gpt, model="claude", messages=[{"role": "user", "content": "[[say:ok]] offered"}], tools=FUNCTIONS)
    offered = [
        any("clinvoker" in tool["name"] for tool in model.of(f"[[say:ok]] {mark}")[-1]["body"]["tools"])
        for mark in ("not offered", "offered")
    ]
    assert offered == [False, True]


@pytest.mark.parametrize(
    ("request_", "param"),
    [
        ({"model": "echo"}, "tools"),
        ({"tool_choice": {"type": "function", "function": {"name": "absent"}}}, "tool_choice"),
        ({"tool_choice": "maybe"}, "tool_choice"),
        ({"tools": [*FUNCTIONS, FUNCTIONS[0]]}, "tools[2].function.name"),
        ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, "tools[0].function.name"),
        ({"tools": [{"type": "function"}]}, "tools[0].function"),
        ({"n": 2}, "n"),
    ],
)
def test_what_cannot_be_is_refused_by_name(gpt, request_, param):
    asked = {
        "model": "claude",
        "tools": FUNCTIONS,
        "messages": [{"role": "user", "content": "hi"}],
        **request_,
    }
    with pytest.raises(openai.BadRequestError) as refused:
        gpt.chat.completions.create(**asked)
    assert refused.value.param == param


async def test_backends_say_whether_they_can(daemon):
    headers = {"authorization": f"Bearer {KEY}"}
    told = (await daemon.client.call("GET", "/api/v1/backends", headers=headers)).json["backends"]
    can = {backend["name"]: backend["capabilities"]["client_tools"] for backend in told}
    assert can == {**dict.fromkeys(AGENTS, True), "echo": False}
