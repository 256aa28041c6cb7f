"""Answers that must satisfy a JSON Schema."""

import time

import pytest
import trio

from actors.errors import Code, Refusal
from clinvoker.chat.comparing import fault_of
from clinvoker.chat.structured import MOST, check_schema, json_of


def nested(levels):
    """So many schemas within one another."""
    schema = {}
    for _ in range(levels):
        schema = {"not": schema}
    return schema


NUMBER = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}


@pytest.mark.parametrize("answer", ['{"n": 1}', '```json\n{"n": 1}\n```', ' ```\n{"n": 1}\n``` \n'])
async def test_json_is_found_in_its_fence(answer):
    assert await fault_of(json_of(answer), NUMBER) is None


@pytest.mark.parametrize(
    ("answer", "fault"),
    [
        ("no json", "not valid JSON"),
        ("[" * 5000, "not valid JSON"),
        ("\ud800", "not valid JSON"),
        ("{}", '$: "n" is a required property'),
        ('{"n": "x"}', '$.n: "x" is not of type "integer"'),
    ],
)
async def test_what_is_wrong_is_named(answer, fault):
    assert fault in (await fault_of(answer, NUMBER) or "")


@pytest.mark.parametrize(
    ("schema", "fault"),
    [
        ({"type": "nonsense"}, 'schema.type: "nonsense" is not'),
        ({"properties": {"a": {"required": "b"}}}, 'schema.properties.a.required: "b" is not of type'),
        ({"$schema": "http://json-schema.org/draft-07/schema#", "required": "b"}, "schema.required: "),
        ({"$schema": "http://127.0.0.1:9/schema"}, "schema: its $schema is none that is known"),
        (nested(300), "schema is nested too deeply"),
        ({"description": "x" * MOST}, f"schema has more than {MOST} bytes"),
    ],
    ids=["type", "deeper", "an older draft", "an unknown draft", "depth", "size"],
)
def test_what_is_no_schema_is_refused(schema, fault):
    with pytest.raises(Refusal) as refused:
        check_schema(schema, "schema")
    assert (refused.value.code, refused.value.param) == (Code.INVALID_REQUEST, "schema")
    assert refused.value.message.startswith(fault)


@pytest.mark.parametrize(
    "schema",
    [
        {"properties": {f"{number:x}": {} for number in range(MOST // 11)}},
        {"anyOf": [{"type": "object", "properties": {"a": {"type": "string"}}}] * 4000},
        {"allOf": [{}] * (MOST // 4)},
    ],
    ids=["properties", "alternatives", "nothings"],
)
def test_looking_at_a_schema_holds_nobody_up(schema):
    began = time.thread_time()
    check_schema(schema, "schema")
    assert time.thread_time() - began < 0.1


def test_what_only_looks_like_a_reference_elsewhere_is_none():
    data = {"const": {"a,": 1, "$ref": 5}, "description": '{"$ref":"http://127.0.0.1:9/"}'}
    check_schema({**data, "properties": {"$ref": {"type": "string"}}}, "schema")


@pytest.mark.parametrize("keyword", ["$ref", "$dynamicRef", "$recursiveRef"])
@pytest.mark.parametrize(
    "elsewhere", ["http://127.0.0.1:9/schema", "file:///etc/passwd", "other.json", "//evil.example#/a"]
)
def test_a_schema_that_refers_elsewhere_is_refused_and_nothing_fetched(keyword, elsewhere):
    with pytest.raises(Refusal, match="only references within the schema") as refused:
        check_schema({"properties": {"a": {"anyOf": [{keyword: elsewhere}]}}}, "schema")
    assert (refused.value.code, refused.value.param) == (Code.INVALID_REQUEST, "schema")


async def test_references_within_the_schema_are_followed():
    within = {"$ref": "#/$defs/n", "$defs": {"n": {"type": "integer"}}}
    check_schema(within, "schema")
    assert await fault_of("1", within) is None
    assert "not of type" in await fault_of('"a"', within)
    assert await fault_of("1", {"$ref": "#"}) is None, "it says nothing, for ever"


@pytest.mark.parametrize("base", [{}, {"$id": "http://127.0.0.1:9/a"}])
def test_references_that_lead_nowhere_are_refused(base):
    with pytest.raises(Refusal, match="does not exist") as refused:
        check_schema({**base, "$ref": "#/$defs/n"}, "schema")
    assert refused.value.param == "schema"


def doubling(levels):
    """Alternatives of alternatives: twice as many at each level."""
    both = [{"$ref": f"#/$defs/{level + 1}"} for level in range(levels)]
    defs = {str(level): {"anyOf": [both[level]] * 2} for level in range(levels)}
    return {"$ref": "#/$defs/0", "$defs": defs | {str(levels): {"type": "integer"}}}


@pytest.mark.parametrize("pattern", ["^(a+)+$", "^(?=(a+)+$)"], ids=["plain", "with a look ahead"])
async def test_a_pattern_that_backtracks_is_compared_all_the_same(pattern):
    assert "does not match" in await fault_of('"' + "a" * 40 + '!"', {"pattern": pattern})


async def test_a_comparison_that_would_take_for_ever_is_given_up_and_holds_nobody_up():
    schema = doubling(40)
    check_schema(schema, "schema")
    waits = []

    async def tick():
        while True:
            began = trio.current_time()
            await trio.sleep(0.05)
            waits.append(trio.current_time() - began)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(tick)
        with pytest.raises(Refusal, match="cannot be compared") as refused:
            await fault_of('"a"', schema)
        nursery.cancel_scope.cancel()
    assert refused.value.code is Code.INVALID_REQUEST
    assert max(waits) < 0.5
