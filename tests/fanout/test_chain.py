"""`POST /chain`: turns in order, each of which may speak of what the ones before it answered (contract, section 3)."""

import os

import pytest

from tests.fanout.support import check_tasks, fan, outputs, result, states, streaming, tasks
from tests.sessions.support import ended, query, session


def steps(*prompts, **fields):
    return tasks(*prompts, **{"backend": "echo", **fields})


def named(**prompts):
    return [{"prompt": prompt, "name": name, "backend": "echo"} for name, prompt in prompts.items()]


async def test_a_step_is_told_what_the_one_before_it_answered(client):
    answer = await result(
        client, "chain", {"steps": steps("one", "{{previous}} two", "{{ previous }} three")}
    )
    assert outputs(answer) == ["one", "one two", "one two three"]
    assert [one["step"] for one in answer["results"]] == [1, 2, 3]
    assert (answer["total_steps"], answer["completed_steps"], answer["failed_step"]) == (3, 3, None)
    assert answer["total_duration_ms"] >= sum(one["duration_ms"] for one in answer["results"]) - 3


async def test_a_step_is_told_what_any_earlier_one_answered_by_its_name(client):
    body = {"steps": named(a="one", b="two", c="{{steps.b.output}} {{steps.a.output}} {{previous}}")}
    answer = await result(client, "chain", body)
    assert outputs(answer)[-1] == "two one two"
    assert [one["name"] for one in answer["results"]] == ["a", "b", "c"]


async def test_every_step_may_be_told_the_input(client):
    body = {"steps": steps("<{{input}}>", "{{previous}} {{input}}"), "input": "some words"}
    assert outputs(await result(client, "chain", body)) == ["<some words>", "<some words> some words"]


async def test_braces_can_be_meant_as_such(client):
    body = {"steps": steps("a", r"\{{previous}} {{ a | b }} {{ {x} }} {{previous}}")}
    assert outputs(await result(client, "chain", body))[1] == "{{previous}} {{ a | b }} {{ {x} }} a"


async def test_what_is_put_in_is_never_looked_at_again(client):
    body = {
        "steps": named(
            a="{{input}}", b=r"\{{steps.a.output}} {{previous}}", c="{{previous}} {{steps.a.output}}"
        ),
        "input": "{{previous}} {{steps.a.output}} {{input}} \\{{",
    }
    told = body["input"]
    first, second, third = outputs(await result(client, "chain", body))
    assert (first, second) == (told, "{{steps.a.output}} " + told)
    assert third == f"{second} {told}"


@pytest.mark.parametrize("prompt", ["{{steps.later.output}}", "{{steps.first.outptu}}", "{{unknown}}"])
async def test_a_word_that_stands_for_nothing_is_a_400(client, prompt):
    body = {"steps": named(first="x", second=prompt, later="y")}
    answer = await fan(client, "chain", body)
    assert (answer.status, answer.json["error"]["param"]) == (400, "steps[1].prompt")


async def test_a_prompt_that_grows_beyond_a_request_fails_its_step(client):
    body = {"steps": steps("{{input}}" * 10_000, "x"), "input": "y" * 2000}
    answer = await result(client, "chain", body)
    assert states(answer) == [("failed", False), ("cancelled", False)]
    assert answer["results"][0]["error"]["code"] == "request_too_large"


async def test_a_chain_stops_at_a_failure_and_says_where(client):
    body = {"steps": steps("a", "{{error:7,no}}", "c", backend="writing")}
    async with streaming(client, "chain", body) as events:
        await events.to_end()
    check_tasks(events.events)
    answer = events.last["content"]["result"]
    assert states(answer) == [("completed", True), ("failed", True), ("cancelled", False)]
    assert (answer["completed_steps"], answer["failed_step"]) == (1, 2)
    assert events.last["content"]["exit_code"] == 1


async def test_a_chain_that_need_not_stop_goes_on_with_what_was_said(client):
    body = {
        "steps": steps("a", "half{{error:7,no}}", "{{previous}} c", backend="writing"),
        "stop_on_failure": False,
    }
    answer = await result(client, "chain", body)
    assert outputs(answer) == ["a", "half", "half c"]
    assert (answer["completed_steps"], answer["failed_step"]) == (2, 2)


async def test_the_working_directory_is_passed_on(client, tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    one.mkdir()
    two.mkdir()
    where = r"\{{where}}"
    body = {"steps": steps(where, where, where, where, backend="writing"), "pass_working_dir": True}
    body["steps"][0]["workdir"] = str(one)
    body["steps"][2]["workdir"] = str(two)
    assert outputs(await result(client, "chain", body)) == [str(one), str(one), str(two), str(two)]
    del body["pass_working_dir"]
    apart = outputs(await result(client, "chain", body))
    assert (apart[0], apart[2]) == (str(one), str(two))
    assert not {str(one), str(two)} & {apart[1], apart[3]}


async def test_steps_that_were_told_no_directory_share_a_passing_one(client):
    prompts = (r"{{write:file=words}}\{{where}}", "{{run:cat file}}")
    body = {"steps": steps(*prompts, backend="writing"), "pass_working_dir": True}
    where, read = outputs(await result(client, "chain", body))
    assert read == "words\n"
    assert not os.path.exists(where)  # noqa: ASYNC240, PTH110 - a look
    kept = await fan(client, "chain", {**body, "persist_sessions": True})
    assert (kept.status, kept.json["error"]["param"]) == (400, "steps[0].workdir")


async def test_sessions_are_kept_if_that_is_asked_for(client):
    body = {"steps": steps("mark-1", r"\{{marks}}", backend="writing"), "persist_sessions": True}
    answer = await result(client, "chain", body)
    ids = [one["session_id"] for one in answer["results"]]
    assert len(set(ids)) == 2
    assert [turn["prompt"] for turn in (await session(client, ids[0]))["turns"]] == ["mark-1"]
    [one] = (await result(client, "parallel", {"tasks": [{"prompt": "{{marks}}", "session_id": ids[0]}]}))[
        "results"
    ]
    assert one["output"] == "mark-1"


async def test_sessions_are_not_kept_otherwise_but_the_run_is(daemon):
    before = query(daemon, "SELECT count(*) FROM sessions")
    answer = await result(daemon.client, "chain", {"steps": steps("a", "b"), "continue_session": True})
    assert query(daemon, "SELECT count(*) FROM sessions") == before
    assert outputs((await ended(daemon.client, answer["run_id"]))["outcome"]["result"]) == ["a", "b"]


@pytest.mark.parametrize("persist", [False, True])
async def test_steps_in_a_row_on_one_backend_may_share_a_conversation(client, persist):
    body = {
        "steps": [
            *steps("mark-1", "mark-2", r"\{{marks}}", backend="writing"),
            *steps("other"),
            *steps(r"\{{marks}}", backend="writing"),
        ],
        "continue_session": True,
        "persist_sessions": persist,
    }
    answer = await result(client, "chain", body)
    assert outputs(answer)[2:] == ["mark-1,mark-2", "other", ""]
    ids = [one["session_id"] for one in answer["results"]]
    assert ids[0] == ids[1] == ids[2]
    assert len(set(ids)) == 3
    if persist:
        told = [turn["prompt"] for turn in (await session(client, ids[0]))["turns"]]
        assert told == ["mark-1", "mark-2", "{{marks}}"]
    else:
        assert (await client.get(f"/api/v1/sessions/{ids[0]}")).status == 404


async def test_two_turns_with_the_same_words_are_two_turns(client):
    body = {"steps": steps("again", "again"), "continue_session": True, "persist_sessions": True}
    [one, _] = (await result(client, "chain", body))["results"]
    turns = (await session(client, one["session_id"]))["turns"]
    assert [turn["output"] for turn in turns] == ["again", "again"]


async def test_without_that_every_step_has_a_conversation_of_its_own(client):
    answer = await result(client, "chain", {"steps": steps("mark-1", r"\{{marks}}", backend="writing")})
    assert outputs(answer)[1] == ""


async def test_a_step_that_shares_a_conversation_cannot_change_its_options(client, tmp_path):
    body = {"steps": steps("a", "b", backend="writing"), "continue_session": True}
    body["steps"][1]["workdir"] = str(tmp_path)
    answer = await fan(client, "chain", body)
    assert (answer.status, answer.json["error"]["param"]) == (400, "steps[1].workdir")


async def test_an_ephemeral_chain_leaves_nothing(daemon):
    count = "SELECT (SELECT count(*) FROM runs) + (SELECT count(*) FROM sessions)"
    before = query(daemon, count)
    body = {"steps": steps("a", "{{previous}} b", ephemeral=True)}
    assert outputs(await result(daemon.client, "chain", body)) == ["a", "a b"]
    assert query(daemon, count) == before
    answer = await fan(daemon.client, "chain", {**body, "persist_sessions": True})
    assert (answer.status, answer.json["error"]["param"]) == (400, "steps[0].ephemeral")
