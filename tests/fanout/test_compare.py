"""`POST /compare`: one question to many agents (contract, section 3)."""

import pytest

from clinvoker.fanout.agreement import similarity
from tests.fanout.support import check_tasks, fan, outputs, result, states, streaming


async def test_every_backend_answers_in_the_order_asked_for(client):
    answer = await result(client, "compare", {"prompt": "one two", "backends": ["writing", "echo"]})
    assert answer["backends"] == ["writing", "echo"]
    assert [one["backend"] for one in answer["results"]] == ["writing", "echo"]
    assert outputs(answer) == ["one two", "one two"]
    assert answer["prompt"] == "one two"
    for one in answer["results"]:
        assert 0 <= one["first_token_ms"] <= one["duration_ms"] <= answer["total_duration_ms"]
        assert one["token_usage"].keys() >= {"input_tokens", "output_tokens", "cost_usd"}


async def test_without_names_all_that_are_available_answer(client):
    answer = await result(client, "compare", {"prompt": "x"})
    assert sorted(answer["backends"]) == ["echo", "writing"], "the absent one is not available"


async def test_one_backends_failure_is_its_own(client):
    body = {"prompt": "x", "backends": ["echo", "absent"]}
    answer = await result(client, "compare", body)
    assert states(answer) == [("completed", True), ("failed", False)]
    assert answer["results"][1]["error"]["code"] == "backend_not_installed"


async def test_what_one_backend_cannot_honour_is_its_own_failure(client):
    answer = await result(
        client, "compare", {"prompt": "x", "backends": ["echo"], "schema": {"type": "object"}}
    )
    [one] = answer["results"]
    assert (one["status"], one["error"]["code"], one["error"]["param"]) == (
        "failed",
        "unsupported_parameter",
        "schema",
    )


async def test_they_answer_side_by_side_or_one_after_the_other(client):
    took = {}
    for sequential in (False, True):
        body = {"prompt": "{{wait:0.3}}x", "backends": ["writing", "echo"], "sequential": sequential}
        async with streaming(client, "compare", body) as events:
            await events.to_end()
        check_tasks(events.events)
        took[sequential] = [
            event["task"]
            for event in events.events
            if event["type"] in {"start", "complete"} and "task" in event
        ]
    assert took[True] == [0, 0, 1, 1]
    assert took[False][-1] == 0, "the slow one ends last"


async def test_it_tells_how_much_the_answers_are_alike(client):
    answer = await result(
        client, "compare", {"prompt": "one two three {{where}}", "backends": ["writing", "echo"]}
    )
    [pair] = answer["agreement"]["pairs"]
    assert pair["backends"] == ["writing", "echo"]
    assert pair["similarity"] == answer["agreement"]["mean"] == similarity(*outputs(answer))
    assert 0.7 < pair["similarity"] < 1
    alone = await result(client, "compare", {"prompt": "x", "backends": ["echo"]})
    assert alone["agreement"] == {"mean": None, "pairs": []}


@pytest.mark.parametrize(
    ("one", "other", "alike"),
    [
        ("a b c", "a b c", 1),
        ("a b", "c d", 0),
        ("a b c d", "a b x y", 0.5),
        ("", "", 1),
        ("a " * 9000, "a " * 8999, 1),
    ],
)
def test_likeness_is_by_words(one, other, alike):
    assert similarity(one, other) == alike


async def test_a_judge_ranks_the_answers_and_does_not_know_whose_they_are(client):
    # This judge says back what it is told: what real ones say is in test_real.
    body = {
        "prompt": "words",
        "backends": ["echo", "writing"],
        "judge": {"backend": "writing", "criteria": "brevity"},
    }
    orders = set()
    for _ in range(12):
        async with streaming(client, "compare", body) as events:
            await events.to_end()
        judged = events.last["content"]["result"]["judge"]
        orders.add(tuple(judged["shown"]))
        [prompt] = {
            event["content"]["output"]
            for event in events.events
            if event["type"] == "complete" and event.get("task") == 2
        }
        assert '<answer id="A">\nwords\n</answer>' in prompt
        assert "Criteria: brevity" in prompt
        assert "echo" not in prompt
        assert "writing" not in prompt
        assert judged["error"]["code"] == "backend_error", "what it said is no ranking"
    assert orders == {("echo", "writing"), ("writing", "echo")}


async def test_fewer_than_two_answers_are_not_judged(client):
    body = {"prompt": "x", "backends": ["echo", "absent"], "judge": {"backend": "echo"}}
    judged = (await result(client, "compare", body))["judge"]
    assert judged["ranking"] == []
    assert "two answers" in judged["error"]["message"]


async def test_without_a_judge_there_is_no_judgement(client):
    assert "judge" not in (await fan(client, "compare", {"prompt": "x", "backends": ["echo"]})).json
