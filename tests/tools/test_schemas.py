"""The schema of a tool's input: one that agents do not take is refused by name, for they would know none of the tools."""

import pytest

from clinvoker.chat.structured import MOST as MOST_OF_ONE
from clinvoker.chat.tools import MOST
from tests.tools.support import KEY, one_call

PLACES = {
    "/openai/v1/chat/completions": "tools[1].function.parameters",
    "/openai/v1/responses": "tools[1].parameters",
    "/anthropic/v1/messages": "tools[1].input_schema",
}


def offering(path, schemas, said="hello", model="claude"):
    """A request with tools of these schemas."""
    asked = [{"role": "user", "content": said}]
    named = [(f"tool{index}", schema) for index, schema in enumerate(schemas)]
    if path.endswith("completions"):
        tools = [{"type": "function", "function": {"name": n, "parameters": s}} for n, s in named]
        return {"model": model, "messages": asked, "tools": tools}
    if path.endswith("responses"):
        return {
            "model": model,
            "input": said,
            "tools": [{"type": "function", "name": n, "parameters": s} for n, s in named],
        }
    tools = [{"name": n, "input_schema": s} for n, s in named]
    return {"model": model, "max_tokens": 99, "messages": asked, "tools": tools}


@pytest.mark.parametrize("path", PLACES)
@pytest.mark.parametrize(
    "schema",
    [
        {"type": "string"},
        {"type": ["object", "null"]},
        {"properties": {"a": {"type": "string"}}},
        {"type": "object", "required": "a"},
        {"type": "object", "properties": {"a": {"type": "zz"}}},
        {"type": "object", "properties": {"a": {"$ref": "http://127.0.0.1:9/a"}}},
        {"type": "object", "description": "x" * MOST_OF_ONE},
    ],
    ids=["a string", "or null", "no type", "required", "an unknown type", "a reference elsewhere", "size"],
)
async def test_a_schema_that_agents_do_not_take_is_refused_by_its_place(daemon, path, schema):
    body = offering(path, [{"type": "object"}, schema])
    answer = await daemon.client.call("POST", path, body, headers={"x-api-key": KEY})
    assert answer.status == 400
    assert PLACES[path] in answer.json["error"]["message"]
    if "openai" in path:
        assert answer.json["error"]["param"] == PLACES[path]


@pytest.mark.parametrize("path", PLACES)
async def test_tools_that_no_model_has_room_for_are_refused(daemon, path):
    large = {"type": "object", "description": "x" * (MOST // 4)}
    body = offering(path, [large] * 4)
    answer = await daemon.client.call("POST", path, body, headers={"x-api-key": KEY})
    assert answer.status == 400
    assert answer.json["error"]["message"] == f"tools: they have more than {MOST} bytes"


@pytest.mark.parametrize("path", PLACES)
async def test_a_tool_without_a_schema_takes_nothing_and_the_others_are_there_beside_it(daemon, path):
    body = offering(path, [{}, {"type": "object"}], one_call("claude").replace("add", "tool1"))
    answer = await daemon.client.call("POST", path, body, headers={"x-api-key": KEY})
    assert answer.status == 200
    assert b"tool1" in answer.body
    assert b"No such tool" not in answer.body
