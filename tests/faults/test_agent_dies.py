"""F1, F2, F4, F19: an agent that ends, at whatever moment.

A turn that began fails with 200 and `exit_code` 1 (contract, section 3); on a stream it ends with one `error`.
"""

import os
import signal

import pytest
import trio

from tests.support.daemon import become_true, scripted

pytestmark = pytest.mark.daemon
BACKENDS = {
    "exits": scripted("--exit", "1", "cannot go on with key sk-abcdefgh12345678 today"),
    "farewell": scripted(),
}


async def test_f1_an_agent_that_ends_at_its_start_is_an_http_error_with_its_last_words(daemon):
    answer = await daemon.client.ask("hello", "exits")
    assert (answer.status, answer.code) == (503, "backend_unavailable")
    message = answer.json["error"]["message"]
    assert "ended with exit code 1: cannot go on" in message
    assert "abcdefgh" not in message
    assert len(message) < 2200


async def test_f1_a_stream_of_such_an_agent_is_refused_before_its_headers(daemon):
    async with daemon.client.stream("hello", "exits") as events:
        assert events.refusal is not None
        assert events.refusal.status == 503


async def test_f1_an_agent_that_ends_before_any_word_fails_the_turn(daemon):
    answer = await daemon.client.ask("{{stderr:I am leaving}}{{exit:1}}")
    assert answer.status == 200
    assert (answer.json["exit_code"], answer.code) == (1, "backend_crashed")
    assert "exit code 1: I am leaving" in answer.json["error"]["message"]


@pytest.mark.parametrize("words", [0, 1, 2, 5])
@pytest.mark.parametrize("end", ["{{exit:3}}", "{{kill:SIGSEGV}}"])
async def test_f2_an_agent_that_crashes_in_mid_answer_ends_the_stream_with_one_error(daemon, words, end):
    said = " ".join(f"w{number}" for number in range(words))
    events = await daemon.client.read(said + end)
    assert events.text == said
    assert events.code == "backend_crashed"
    expected = "exit code 3" if "exit" in end else "signal 11 (SIGSEGV)"
    assert expected in events.last["content"]["message"]


async def test_f2_what_was_said_before_the_crash_is_in_the_answer(daemon):
    answer = await daemon.client.ask("this much{{exit:3}}")
    assert (answer.json["output"], answer.json["exit_code"]) == ("this much", 1)


async def test_f2_every_conversation_of_a_crashed_process_ends_with_its_error(daemon):
    async with (
        daemon.client.stream("one{{wait:20}}") as other,
        daemon.client.stream("two{{wait:20}}") as third,
    ):
        await other.until("one")
        await third.until("two")
        assert (await daemon.client.read("{{exit:9}}")).code == "backend_crashed"
        assert (await other.to_end()).code == "backend_crashed"
        assert (await third.to_end()).code == "backend_crashed"


async def test_f2_after_a_crash_a_new_process_takes_its_place(daemon):
    await daemon.client.ask("{{kill:SIGKILL}}")
    await become_true(lambda: not daemon.agents() or not daemon.zombies(), 2)
    await trio.sleep(0.3)
    assert (await daemon.client.ask("again")).json["output"] == "again"


@pytest.mark.parametrize("then", ["exit", "hang", "closeout"])
async def test_f4_what_an_agent_does_after_its_result_changes_nothing(daemon, then):
    answer = await daemon.client.ask(f"done{{{{endand:{then}}}}}", "farewell")
    assert (answer.json["output"], answer.json["exit_code"]) == ("done", 0)


async def test_f19_an_agent_killed_from_outside_is_told_so(daemon):
    async with daemon.client.stream("{{pid}}{{wait:20}}") as events:
        await become_true(daemon.agents, 2)
        while not events.text:
            await events.more()
        os.kill(int(events.text), signal.SIGKILL)
        await events.to_end()
    assert events.code == "backend_crashed"
    assert "signal 9 (SIGKILL)" in events.last["content"]["message"]
