"""Answers that must satisfy a JSON Schema."""

import pytest

from actors.errors import Refusal
from clinvoker.chat.structured import check_schema, fault_of, json_of

NUMBER = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}


@pytest.mark.parametrize("answer", ['{"n": 1}', '```json\n{"n": 1}\n```', ' ```\n{"n": 1}\n``` \n'])
def test_json_is_found_in_its_fence(answer):
    assert fault_of(json_of(answer), NUMBER) is None


@pytest.mark.parametrize(
    ("answer", "fault"),
    [
        ("no json", "not valid JSON"),
        ("[" * 5000, "not valid JSON"),
        ("\ud800", "not valid JSON"),
        ("{}", "'n' is a required property"),
        ('{"n": "x"}', "$.n: 'x' is not of type 'integer'"),
    ],
)
def test_what_is_wrong_is_named(answer, fault):
    assert fault in (fault_of(answer, NUMBER) or "")


def test_what_is_no_schema_is_refused():
    with pytest.raises(Refusal) as refused:
        check_schema({"type": "nonsense"}, "response_format.json_schema.schema")
    assert refused.value.param == "response_format.json_schema.schema"
