"""Idempotency-Key: a request that is sent again joins its run, or gets its answer again, and never runs twice."""

import trio

from tests.sessions.support import begin, check_whole, error_of, prompt, query, streaming

ENV = {"CLINVK_API_KEYS": "one,two"}
ONE, TWO = {"x-api-key": "one"}, {"x-api-key": "two"}


def keyed(key, who=ONE):
    return {"headers": {**who, "idempotency-key": key}}


async def ask(client, text, key, who=ONE, **fields):
    return await prompt(client, text, backend="scripted", **keyed(key, who), **fields)


async def test_sent_again_while_it_runs_it_joins_the_run(client):
    async with streaming(client, "w{{wait:0.5}}done", backend="scripted", **keyed("joins")) as first:
        await first.until("w")
        async with streaming(client, "w{{wait:0.5}}done", backend="scripted", **keyed("joins")) as second:
            await second.to_end()
        await first.to_end()
    assert first.events == second.events
    check_whole(first.events)
    assert first.run_id == second.run_id


async def test_the_first_sender_may_leave_when_a_second_has_joined(client):
    async with streaming(client, "w{{wait:1}}done", backend="scripted", **keyed("left")) as first:
        await first.until("w")
        async with streaming(client, "w{{wait:1}}done", backend="scripted", **keyed("left")) as second:
            first.reset()
            await second.to_end()
    assert second.last["content"]["output"] == "wdone"


async def test_sent_again_when_it_has_finished_it_is_answered_again(client):
    first = await ask(client, "{{pid}} a b", "again")
    second = await ask(client, "{{pid}} a b", "again")
    assert first.json == second.json
    await trio.sleep(0.8)
    third = await ask(client, "{{pid}} a b", "again")
    assert first.json == third.json, "now from the store alone"


async def test_a_failure_after_the_start_is_answered_again(client):
    first = await ask(client, "a{{error:5,bad luck}}", "fails")
    await trio.sleep(0.8)
    second = await ask(client, "a{{error:5,bad luck}}", "fails")
    assert first.json["error"]["code"] == "backend_error"
    assert {**first.json, "duration_ms": 0} == {**second.json, "duration_ms": 0}


async def test_another_body_under_the_same_key_is_a_conflict(client):
    async with streaming(client, "w{{wait:0.5}}", backend="scripted", **keyed("differs")) as first:
        await first.until("w")
        answer = await ask(client, "something else", "differs")
        assert error_of(answer) == (409, "idempotency_conflict", "Idempotency-Key")
        await first.to_end()
    assert first.last["type"] == "complete"
    await trio.sleep(0.8)
    assert error_of(await ask(client, "something else", "differs"))[:2] == (409, "idempotency_conflict")


async def test_two_callers_do_not_share_a_key(client):
    mine = await ask(client, "same", "shared", ONE)
    theirs = await ask(client, "same", "shared", TWO)
    assert mine.json["run_id"] != theirs.json["run_id"]
    other = await ask(client, "something else", "shared", TWO)
    assert error_of(other)[:2] == (409, "idempotency_conflict")


async def hundred(client, key, **fields):
    answers = []

    async def send():
        answers.append(await ask(client, "{{wait:0.2}}once", key, **fields))

    async with trio.open_nursery() as nursery:
        for _ in range(100):
            nursery.start_soon(send)
    return answers


async def test_a_hundred_at_once_are_one_run(client, daemon):
    for key, fields in [
        ("new", {}),
        ("detached", {"detach": True}),
        ("in a session", {"session": await begin(client, "x", backend="scripted", headers=ONE)}),
        ("ephemeral", {"ephemeral": True}),
    ]:
        answers = await hundred(client, key, **fields)
        assert [answer.status for answer in answers] == [200] * 100
        assert len({answer.json["run_id"] for answer in answers}) == 1, key
    assert query(daemon, "SELECT count(*) FROM turns WHERE prompt = '{{wait:0.2}}once'") == [(3,)]


async def test_what_was_refused_may_be_asked_again_under_its_key(client):
    one = await begin(client, "x", backend="scripted", headers=ONE)
    async with streaming(client, "w{{wait:0.5}}", one, headers=ONE) as events:
        await events.until("w")
        for _ in range(2):
            refused = await prompt(client, "x", one, **keyed("busy"))
            assert error_of(refused)[:2] == (409, "session_busy")
        await events.to_end()
    assert (await prompt(client, "x", one, **keyed("busy"))).json["output"] == "x"
    for _ in range(2):
        assert (await prompt(client, "x", "ses_unknown", **keyed("unknown"))).status == 404


async def test_a_caller_who_left_before_the_start_may_come_again(client):
    for seconds in (0.0005, 0.001, 0.002, 0.004, 0.008):
        with trio.move_on_after(seconds):
            await ask(client, "come again", f"left {seconds}")
        with trio.fail_after(3):
            assert (await ask(client, "come again", f"left {seconds}")).json["output"] == "come again"


async def test_an_ephemeral_run_is_joined_while_it_lives_and_run_anew_after_it(client):
    first = await ask(client, "a", "fleeting", ephemeral=True)
    await trio.sleep(0.9)
    second = await ask(client, "a", "fleeting", ephemeral=True)
    assert second.status == 200
    assert first.json["run_id"] != second.json["run_id"]


async def test_a_key_that_is_too_long_is_refused(client):
    assert error_of(await ask(client, "x", "k" * 257))[:2] == (400, "invalid_request")
    assert (await ask(client, "x", "k" * 256)).status == 200


async def test_it_holds_across_a_restart(client, daemon):
    finished = await ask(client, "a b c", "restart 1")
    detached = await ask(client, "w{{wait:30}}", "restart 2", detach=True)
    await trio.sleep(0.1)
    daemon.process.kill()
    daemon.ended()
    daemon.start()
    daemon.wait_listening()
    client = daemon.client
    again = await ask(client, "a b c", "restart 1")
    assert again.json == finished.json
    assert error_of(await ask(client, "other", "restart 1"))[:2] == (409, "idempotency_conflict")
    again = await ask(client, "w{{wait:30}}", "restart 2", detach=True)
    assert again.json == detached.json
    async with client.open("GET", f"/api/v1/runs/{again.json['run_id']}/events", headers=ONE) as incoming:
        assert b'"interrupted"' in (await incoming.whole()).body
