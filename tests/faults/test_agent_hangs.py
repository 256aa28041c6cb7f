"""F3, F5, F14, F20: an agent that does not go on, and what it takes to end it."""

import os
import signal

import pytest
import trio

from tests.support.daemon import become_true, scripted

pytestmark = [pytest.mark.daemon, pytest.mark.slow]
BACKENDS = {
    "mute": scripted("--mute", start_timeout_secs=0.5),
    "deaf": scripted("--deaf"),
    "obedient": scripted(),
    "unread": scripted("--unread"),
    "stopped": scripted(spares=1, start_timeout_secs=30),
}
SERVER = {"first_event_timeout_secs": 1.5, "idle_event_timeout_secs": 0.6}


@pytest.mark.parametrize("words", ["", "some words"])
async def test_f3_an_agent_that_falls_silent_is_timed_out_and_ended(daemon, words):
    began = trio.current_time()
    events = await daemon.client.read(words + "{{hang}}")
    assert (events.code, events.text) == ("timeout", words)
    assert trio.current_time() - began < 3


async def test_f3_an_agent_that_never_shakes_hands_is_an_http_error(daemon):
    answer = await daemon.client.ask("hello", "mute")
    assert (answer.status, answer.code) == (503, "backend_unavailable")
    assert "was not ready within 0.5 s" in answer.json["error"]["message"]


async def test_f3_a_silent_turn_of_an_obedient_agent_is_cancelled_and_its_process_stays(daemon):
    pid = (await daemon.client.ask("{{pid}}")).json["output"]
    assert (await daemon.client.ask("words{{wait:20}}")).code == "timeout"
    await become_true((daemon.notes / "cancelled").exists, 2)
    assert (await daemon.client.ask("{{pid}}")).json["output"] == pid


async def test_f5_an_agent_that_ignores_sigterm_is_killed_within_the_grace(daemon):
    pid = int((await daemon.client.ask("{{pid}}{{unread}}", "deaf")).json["output"])
    began = trio.current_time()
    # Nobody holds a conversation of it: it is ended, and with 1 s of grace that takes no longer.
    await become_true(lambda: pid not in [one.pid for one in daemon.agents()], 3)
    assert 0.3 < trio.current_time() - began < 1.5


async def test_f5_an_agent_that_obeys_nothing_is_killed_when_its_turn_is_over(daemon):
    began = trio.current_time()
    answer = await daemon.client.ask("{{deaf}}{{hang}}", "obedient")
    assert answer.code == "timeout"
    await become_true(lambda: len(daemon.agents()) <= 2, 5)  # the spares of two backends
    assert trio.current_time() - began < 5


async def test_f14_an_agent_that_has_closed_its_input_may_finish_its_answer(daemon):
    answer = await daemon.client.ask("words{{closein}}{{wait:0.05}} more", "obedient")
    assert answer.json["output"] == "words more"
    assert (await daemon.client.ask("after", "obedient")).json["output"] == "after"


async def test_f14_a_prompt_of_9_mb_that_is_never_read_is_timed_out(daemon):
    answer = await daemon.client.ask("x" * 9_000_000, "unread")
    assert answer.code == "timeout", answer


async def test_f14_a_prompt_of_9_mb_that_is_read_is_answered(daemon):
    answer = await daemon.client.ask("x" * 9_000_000)
    assert len(answer.json["output"]) == 9_000_000


async def test_f20_a_stopped_agent_is_timed_out_and_killed(daemon):
    answer = await daemon.client.ask("words{{kill:SIGSTOP}}")
    assert answer.code == "timeout"


async def test_f20_an_agent_that_is_stopped_before_a_turn_begins_is_killed_though_its_start_has_more_time(
    daemon,
):
    pid = int((await daemon.client.ask("{{pid}}", "stopped")).json["output"])
    os.kill(pid, signal.SIGSTOP)
    assert (await daemon.client.ask("met it", "stopped")).code == "timeout"
    await become_true(lambda: pid not in [one.pid for one in daemon.agents()], 4)
    assert (await daemon.client.ask("after", "stopped")).json["output"] == "after"
