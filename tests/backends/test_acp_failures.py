"""How a turn of an ACP agent fails, is interrupted, and what belongs to none."""

import json
import time

import pytest
import trio
import trio.testing
from msgspec import UNSET

from actors.driver import LinkClosed
from actors.errors import Code, Refusal
from actors.messages import Complete, Failed, Prompt, Start
from actors.outbox import Outbox
from tests.backends.acp_player import Player, chunk, end, update
from tests.backends.harness import Asked, no_tools, text_of


@pytest.mark.parametrize(
    ("agent", "name", "code", "retry_after"),
    [
        ("gemini", "err_400", Code.BACKEND_ERROR, UNSET),
        ("gemini", "err_401", Code.NOT_LOGGED_IN, UNSET),
        ("gemini", "err_403", Code.NOT_LOGGED_IN, UNSET),
        ("gemini", "err_404", Code.MODEL_NOT_FOUND, UNSET),
        ("gemini", "err_context", Code.CONTEXT_TOO_LONG, UNSET),
        ("gemini", "err_429", Code.BACKEND_RATE_LIMITED, 3.0),
        ("gemini", "err_503", Code.BACKEND_OVERLOADED, UNSET),
        ("opencode", "err_400", Code.BACKEND_ERROR, UNSET),
        ("opencode", "err_401", Code.NOT_LOGGED_IN, UNSET),
        ("opencode", "err_403", Code.NOT_LOGGED_IN, UNSET),
        ("opencode", "err_404", Code.MODEL_NOT_FOUND, UNSET),
        ("opencode", "err_context", Code.CONTEXT_TOO_LONG, UNSET),
        ("opencode", "refusal", Code.REFUSED, UNSET),
    ],
)
async def test_an_error_has_its_code_and_words_for_people(play, agent, name, code, retry_after):
    events, _ = await play(agent, name)
    failed = events[-1]
    assert (type(failed), failed.code, failed.retry_after) == (Failed, code, retry_after)
    assert failed.message
    assert "{" not in failed.message


@pytest.mark.parametrize(
    ("error", "code"),
    [
        ({"code": -32000, "message": "Authentication required"}, Code.NOT_LOGGED_IN),
        ({"code": 500, "message": "fetch failed sending request"}, Code.BACKEND_UNREACHABLE),
        (
            {"code": -32603, "message": "Internal error", "data": {"details": "connect ECONNREFUSED"}},
            Code.BACKEND_UNREACHABLE,
        ),
        ({"code": 529, "message": ""}, Code.BACKEND_OVERLOADED),
        ({"code": -32603, "message": "Internal error", "data": [1]}, Code.BACKEND_ERROR),
        ({"code": 500, "message": "{broken"}, Code.BACKEND_ERROR),
    ],
)
async def test_other_errors_have_their_codes(error, code):
    player = Player("gemini")
    await player.open()
    events = await player.turn([{"id": "PROMPT", "error": error}])
    assert events[-1].code == code


async def test_a_result_that_is_none_is_a_protocol_error():
    player = Player("gemini")
    await player.open()
    events = await player.turn([{"id": "PROMPT", "result": {"stop": 1}}])
    assert events[-1].code == Code.PROTOCOL


async def test_the_end_of_the_process_ends_the_turn(nursery):
    player = Player("gemini")
    await player.open()

    async def die():
        await player.prompt_sent.wait()
        player.link.closed()

    nursery.start_soon(die)
    with pytest.raises(LinkClosed):
        await player.link.turn("SESSION", Prompt("hi"), Outbox(), Asked(), no_tools)


async def test_what_belongs_to_no_turn_is_passed_over():
    player = Player("gemini")
    await player.open()
    player.say(chunk("late"))
    player.say(
        {"method": "session/update", "params": {"sessionId": "other", "update": {"sessionUpdate": "x"}}}
    )
    player.say({"method": "something/else"})
    player.say({"id": 3, "method": "fs/read_text_file", "params": {}})
    player.say(
        {
            "id": 4,
            "method": "session/request_permission",
            "params": {"sessionId": "other", "toolCall": {"toolCallId": "t"}},
        }
    )
    events = await player.turn([update({"sessionUpdate": "plan", "entries": []}), end("end_turn")])
    assert [type(event) for event in events] == [Start, Complete]
    answers = {message["id"]: message for message in player.sent if "method" not in message}
    assert answers[3]["error"]["code"] == -32601
    assert answers[4]["result"] == {"outcome": {"outcome": "cancelled"}}
    assert player.link.unparsed == 0


# Interrupting.


async def test_an_interrupt_cancels_and_waits_for_the_result(nursery):
    player = Player("gemini")
    await player.open()
    with trio.move_on_after(0.05):
        await player.link.turn("SESSION", Prompt("hi"), Outbox(), Asked(), no_tools)
    ended = trio.Event()

    async def interrupt():
        await player.link.interrupt("SESSION")
        ended.set()

    nursery.start_soon(interrupt)
    await trio.testing.wait_all_tasks_blocked()
    assert player.of("session/cancel")[0]["params"] == {"sessionId": "SESSION"}
    assert not ended.is_set()
    player.say({**end("cancelled"), "id": player.of("session/prompt")[0]["id"]})
    await ended.wait()
    events = await player.turn([chunk("again"), end("end_turn")])
    assert text_of(events) == "again"


async def test_an_interrupt_withdraws_what_was_asked(nursery):
    player = Player("gemini")
    await player.open()

    async def never(_permission):
        await trio.sleep_forever()

    async def ask():
        await player.prompt_sent.wait()
        player.say(
            {
                "id": 9,
                "method": "session/request_permission",
                "params": {"sessionId": "SESSION", "toolCall": {"toolCallId": "t"}},
            }
        )

    nursery.start_soon(ask)
    with trio.move_on_after(0.05):
        await player.link.turn("SESSION", Prompt("hi"), Outbox(), never, no_tools)
    nursery.start_soon(player.link.interrupt, "SESSION")
    await trio.testing.wait_all_tasks_blocked()
    assert player.sent[-1] == {"jsonrpc": "2.0", "id": 9, "result": {"outcome": {"outcome": "cancelled"}}}
    player.say({**end("cancelled"), "id": player.of("session/prompt")[0]["id"]})


async def test_an_interrupt_with_nothing_in_hand_says_nothing():
    player = Player("gemini")
    await player.open()
    await player.turn([end("end_turn")])
    await player.link.interrupt("SESSION")
    assert not player.of("session/cancel")


async def test_a_question_that_makes_no_sense_is_counted_and_answered_once():
    player = Player("gemini")
    await player.open()
    await player.turn(
        [{"id": 9, "method": "session/request_permission", "params": {"x": "\ud83d"}}, end("end_turn")]
    )
    await player.link.close("SESSION")
    assert player.link.unparsed == 1
    await player.open()
    assert [message["result"] for message in player.sent if message["id"] == 9] == [
        {"outcome": {"outcome": "cancelled"}}
    ]


async def test_a_conversation_that_is_not_open_is_not_found():
    player = Player("gemini")
    with pytest.raises(Refusal) as refused:
        await player.link.turn("nowhere", Prompt("hi"), Outbox(), Asked(), no_tools)
    assert refused.value.code == Code.NOT_FOUND
    await player.link.interrupt("nowhere")


async def test_fifty_thousand_deltas_cost_little():
    player = Player("gemini")
    await player.open()
    lines = [json.dumps(chunk(f" w{number}")).encode() for number in range(50_000)]
    out = Outbox()

    async def stream():
        await player.prompt_sent.wait()
        began = time.process_time()
        for line in lines:
            player.link.feed(line)
        player.spent = time.process_time() - began
        player.say({**end("end_turn"), "id": player.of("session/prompt")[0]["id"]})

    async with trio.open_nursery() as nursery:
        nursery.start_soon(stream)
        await player.link.turn("SESSION", Prompt("hi"), out, Asked(), no_tools)
    assert len(await out.take()) == 50_002
    assert player.spent < 0.3  # 0.1 s on a quiet machine
