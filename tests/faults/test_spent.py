"""A process that takes no more turns serves nobody: neither one that has just died nor one that no longer listens."""

import pytest
import trio

from tests.support.daemon import scripted

pytestmark = pytest.mark.daemon
BACKENDS = {
    "closes": scripted(spares=1),
    "unread": scripted(spares=1),
    "hangs": scripted(spares=1, start_timeout_secs=0.5),
}


async def test_f2_the_prompt_right_after_a_crash_is_answered(daemon):
    await daemon.client.ask("{{kill:SIGKILL}}")
    again = await daemon.client.ask("again")
    assert again.status == 200, again
    assert again.json["output"] == "again"


async def test_f14_an_agent_that_has_closed_its_input_harms_no_turn_but_the_one_that_met_it(daemon):
    answer = await daemon.client.ask("words{{closein}}{{wait:0.05}} more", "closes")
    assert answer.json["output"] == "words more"
    await daemon.client.ask("met it", "closes")
    after = await daemon.client.ask("after", "closes")
    assert after.status == 200, after


async def test_f14_a_caller_who_leaves_while_his_prompt_is_written_harms_no_later_turn(daemon):
    first = await daemon.client.ask("{{unread}}", "unread", ephemeral=False)
    session = first.json["session_id"]
    with trio.move_on_after(0.5):
        await daemon.client.ask("x" * 9_000_000, "unread", ephemeral=False, session_id=session)
    daemon.client.unseen += 1
    daemon.baseline.tasks += 3  # the session lives on
    await trio.sleep(0.5)
    after = await daemon.client.ask("after", "unread")
    assert after.status == 200, after


async def test_f14_an_agent_that_opens_no_conversation_in_time_is_not_asked_again(daemon):
    await daemon.client.ask("{{unread}}", "hangs")
    met = await daemon.client.ask("met it", "hangs")
    assert (met.status, met.code) == (503, "backend_unavailable")
    assert (await daemon.client.ask("after", "hangs")).status == 200
