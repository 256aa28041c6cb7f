"""Turn n+1 of a chat goes to the same session, with only the new message; and what is another chat goes to another."""

from functools import partial

import pytest
import trio

from tests.openai.support import CHAT, ask


async def post(scene, messages, headers=None, **fields):
    body = {"model": "scripted", "messages": messages, **fields}
    return await scene.client.call("POST", CHAT, body, headers=headers or {})


async def turn(scene, *texts, headers=None, **fields):
    """The answer's text and its session."""
    answer = await post(scene, ask(*texts), headers, **fields)
    assert answer.status == 200, answer
    return answer.json["choices"][0]["message"]["content"], answer.headers["x-clinvoker-session"]


def text_of(answer):
    assert answer.status == 200, answer
    return answer.json["choices"][0]["message"]["content"]


async def test_the_next_message_alone_goes_to_the_same_session(scene):
    first, session = await turn(scene, "one")
    assert await turn(scene, "one", first, "two") == ("two", session)
    assert await turn(scene, "one", first, "two", "two\n", "three") == ("three", session)


@pytest.mark.parametrize("role", ["system", "developer"])
async def test_what_the_system_says_later_stands_where_it_was_said_and_the_chat_goes_on(scene, role):
    first, session = await turn(scene, f"begun {role}")
    messages = [*ask(f"begun {role}", first), {"role": role, "content": "be brief"}, *ask("two")]
    answer = await post(scene, messages)
    told = answer.json["choices"][0]["message"]["content"]
    assert told == "<system>\nbe brief\n</system>\n\ntwo"
    assert answer.headers["x-clinvoker-session"] == session
    messages += [{"role": "assistant", "content": told}, *ask("three")]
    answer = await post(scene, messages)
    assert answer.json["choices"][0]["message"]["content"] == "three"
    assert answer.headers["x-clinvoker-session"] == session


async def test_a_streamed_answer_counts_as_well(scene):
    async with scene.client.open(
        "POST", CHAT, {"model": "scripted", "messages": ask("streamed"), "stream": True}
    ) as incoming:
        await incoming.whole()
    assert (await turn(scene, "streamed", "streamed", "two"))[1] == incoming.headers["x-clinvoker-session"]


async def test_a_chat_that_nobody_had_is_told_to_a_new_session(scene):
    told, _ = await turn(scene, "was it <this>?", "it was", "and now")
    assert "<user>was it &lt;this&gt;?</user>\n<assistant>it was</assistant>" in told
    assert told.endswith("\n\nand now")


async def test_an_edited_chat_is_another(scene):
    first, session = await turn(scene, "edit me")
    told, other = await turn(scene, "edited", first, "two")
    assert other != session
    assert "<user>edited</user>" in told


async def test_an_answer_asked_for_once_more_comes_from_a_session_of_its_own(scene):
    first, session = await turn(scene, "again")
    _, second = await turn(scene, "again", first, "two")
    told, third = await turn(scene, "again", first, "two")
    assert second == session
    assert third != session
    assert "<user>again</user>" in told


@pytest.mark.parametrize(
    "other", [{"headers": {"x-clinvoker-approval-mode": "auto"}}, {"system": "be brief"}]
)
async def test_other_options_make_another_session(scene, other):
    mark = f"options {other}"
    first, session = await turn(scene, mark)
    messages = ask(mark, first, "two")
    if system := other.get("system"):
        messages.insert(0, {"role": "system", "content": system})
    answer = await post(scene, messages, other.get("headers"))
    assert answer.headers["x-clinvoker-session"] != session


async def test_a_conversation_that_the_client_names_goes_on_whatever_it_made_of_the_answer(scene):
    headers = {"x-openwebui-chat-id": "chat-1"}
    _, session = await turn(scene, "named", headers=headers)
    assert await turn(scene, "named", "abridged", "two", headers=headers) == ("two", session)


async def test_a_client_that_names_its_session_may_send_the_newest_message_alone(scene):
    _, session = await turn(scene, "alone", session_id="mine")
    assert await turn(scene, "two", session_id="mine") == ("two", session)
    assert (await turn(scene, "two", session_id="other"))[1] != session


async def test_our_own_header_names_a_session_outright(scene):
    _, session = await turn(scene, "outright")
    assert await turn(scene, "a", "b", "two", headers={"x-clinvoker-session": session}) == ("two", session)
    answer = await post(scene, ask("three"), {"x-clinvoker-session": "ses_nobody"})
    assert answer.status == 404


@pytest.mark.parametrize(
    ("headers", "fields", "param"),
    [
        ({"x-clinvoker-approval-mode": "none"}, {}, "x-clinvoker-approval-mode"),
        ({"x-clinvoker-sandbox-mode": "full"}, {}, "x-clinvoker-sandbox-mode"),
        ({"x-clinvoker-workdir": "/"}, {}, "x-clinvoker-workdir"),
        ({}, {"model": "scripted/other"}, "model"),
    ],
)
async def test_a_session_that_is_asked_for_cannot_be_had_otherwise(scene, headers, fields, param):
    _, session = await turn(scene, "as it is", headers={"x-clinvoker-approval-mode": "auto"})
    named = {"x-clinvoker-session": session}
    answer = await post(scene, ask("two"), named | headers, **fields)
    assert (answer.status, answer.json["error"]["param"]) == (400, param)
    again = named | {"x-clinvoker-approval-mode": "auto"}
    assert await turn(scene, "two", headers=again) == ("two", session)


SYSTEM = {"role": "system", "content": "speak <French>"}
TOLD = "<instructions>\nspeak &lt;French&gt;\n</instructions>\n\ntwo"


async def test_new_instructions_are_told_to_a_session_that_is_asked_for(scene):
    _, session = await turn(scene, "in English")
    answer = await post(scene, [SYSTEM, *ask("two")], {"x-clinvoker-session": session})
    assert text_of(answer) == TOLD


async def test_new_instructions_are_told_to_who_sends_the_newest_message_alone(scene):
    _, session = await turn(scene, "alone in English", session_id="instructed")
    answer = await post(scene, [SYSTEM, *ask("two")], session_id="instructed")
    assert (text_of(answer), answer.headers["x-clinvoker-session"]) == (TOLD, session)


async def test_new_instructions_make_another_session_of_a_chat_that_is_named(scene):
    headers = {"x-openwebui-chat-id": "instructed"}
    first, session = await turn(scene, "named in English", headers=headers)
    answer = await post(scene, [SYSTEM, *ask("named in English", first, "two")], headers)
    assert answer.headers["x-clinvoker-session"] != session
    assert text_of(answer).startswith("<instructions>\nspeak")


async def test_an_agent_as_a_client_changes_its_own_instructions_as_it_likes(scene):
    headers = {"session-id": "codex-1"}
    first, session = await turn(scene, "an agent's", headers=headers)
    answer = await post(scene, [SYSTEM, *ask("an agent's", first, "two")], headers)
    assert (text_of(answer), answer.headers["x-clinvoker-session"]) == ("two", session)


async def test_a_session_that_is_busy_leaves_the_chat_to_another(scene):
    first, session = await turn(scene, "busy")
    body = {"prompt": "{{wait:30}}", "session_id": session, "detach": True}
    held = await scene.client.call("POST", "/api/v1/prompt", body)
    told, other = await turn(scene, "busy", first, "two")
    assert other != session
    assert "<user>busy</user>" in told
    await scene.client.call("POST", f"/api/v1/runs/{held.json['run_id']}/cancel", {})


async def test_a_session_that_was_deleted_leaves_the_chat_to_another(scene):
    first, session = await turn(scene, "deleted")
    assert (await scene.client.call("DELETE", f"/api/v1/sessions/{session}")).status == 200
    told, other = await turn(scene, "deleted", first, "two")
    assert other != session
    assert "<user>deleted</user>" in told


async def test_a_turn_that_failed_leaves_the_chat_to_another_session(scene):
    first, session = await turn(scene, "fails")
    assert (await post(scene, ask("fails", first, "{{error:1,no}}"))).status == 502
    assert (await turn(scene, "fails", first, "two"))[1] != session


async def test_keys_keep_their_chats_apart(keyed):
    right, other = ({"authorization": f"Bearer {key}"} for key in ("right", "other"))
    first, session = await turn(keyed, "mine", headers=right)
    told, strange = await turn(keyed, "mine", first, "two", headers=other)
    assert strange != session
    assert "<user>mine</user>" in told
    assert await turn(keyed, "mine", first, "two", headers=right) == ("two", session)


# Retries.


async def together(scene, messages, *headers):
    """Send the same request several times at once; returns the ids of the runs."""
    runs = []

    async def one(more):
        answer = await post(scene, messages, more)
        assert answer.status == 200, answer
        runs.append(answer.headers["x-clinvoker-run"])

    async with trio.open_nursery() as nursery:
        for each in headers:
            nursery.start_soon(partial(one, each))
    return runs


async def test_a_request_sent_again_joins_the_run_in_flight(scene):
    assert len(set(await together(scene, ask("join{{wait:0.3}}"), {}, {}, {}))) == 1


async def test_a_request_sent_again_after_its_run_is_a_new_one(scene):
    messages = ask("later")
    assert (await together(scene, messages, {})) != (await together(scene, messages, {}))


AGAIN = {"x-stainless-retry-count": "1"}


async def test_a_further_attempt_after_the_run_is_answered_by_it(scene):
    messages = ask("answered already")
    run = await together(scene, messages, {})
    assert await together(scene, messages, AGAIN, AGAIN) == run * 2


@pytest.mark.parametrize(
    ("failure", "status", "turns"),
    [
        ("{{error:1,at once}}", 502, 1),
        ("said {{error:1,then}}", 502, 1),
        ("{{error:429,at once}}", 429, 2),
        ("said {{error:429,then}}", 429, 1),
    ],
)
async def test_a_further_attempt_is_told_of_a_failure_after_which_the_agent_may_have_acted(
    scene, failure, status, turns
):
    before = len(scene.daemon.logged("run ended"))
    messages = ask(failure)
    answers = [await post(scene, messages, headers) for headers in ({}, AGAIN)]
    assert [answer.status for answer in answers] == [status] * 2
    assert len(scene.daemon.logged("run ended")) == before + turns


async def test_the_same_request_right_after_such_a_failure_is_taken_for_an_attempt_unless_it_is_said_to_be_none(
    scene,
):
    before = len(scene.daemon.logged("run ended"))
    messages = ask("{{error:1,again and again}}")
    assert [(await post(scene, messages)).status for _ in range(3)] == [502] * 3
    assert len(scene.daemon.logged("run ended")) == before + 1
    assert (await post(scene, messages, {"x-stainless-retry-count": "0"})).status == 502
    assert len(scene.daemon.logged("run ended")) == before + 2


async def test_a_further_attempt_after_a_refusal_is_a_first_one(scene):
    _, session = await turn(scene, "busy")
    ours = {"x-clinvoker-session": session}
    async with scene.client.open(
        "POST", CHAT, {"model": "scripted", "messages": ask("long{{wait:0.5}}"), "stream": True}, headers=ours
    ) as incoming:
        await incoming.chunk()
        assert (await post(scene, ask("short"), ours)).status == 409
        await incoming.whole()
    assert (await post(scene, ask("short"), ours | AGAIN)).status == 200


async def test_a_request_that_its_client_calls_a_new_one_joins_none(scene):
    fresh = {"x-stainless-retry-count": "0"}
    assert len(set(await together(scene, ask("fresh{{wait:0.3}}"), fresh, fresh))) == 2
    assert len(set(await together(scene, ask("retry{{wait:0.3}}"), AGAIN, AGAIN))) == 1


async def test_requests_of_different_sessions_join_none(scene):
    one, two = {"x-session-id": "1"}, {"x-session-id": "2"}
    assert len(set(await together(scene, ask("apart{{wait:0.3}}"), one, two))) == 2


async def test_a_client_that_gave_up_finds_its_run_again(scene):
    messages = ask("gave up{{wait:0.6}} and came back")
    async with scene.client.open(
        "POST", CHAT, {"model": "scripted", "messages": messages, "stream": True}
    ) as incoming:
        await incoming.chunk()
    answer = await post(scene, messages, stream=True)
    assert answer.headers["x-clinvoker-run"] == incoming.headers["x-clinvoker-run"]
    assert b"came" in answer.body


def test_the_sdk_has_a_chat(scene):
    messages = []
    for word in ("one", "two", "three"):
        messages.append({"role": "user", "content": word})
        messages.append(scene.chat(model="scripted", messages=messages).choices[0].message)
    assert [content_of(message) for message in messages] == ["one", "one", "two", "two", "three", "three"]


def content_of(message):
    return message["content"] if isinstance(message, dict) else message.content
