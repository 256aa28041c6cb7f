"""Callers that go away, or do not read: the agent is told, the slot is free, nobody else notices."""

import pytest
import trio

from tests.support.daemon import become_true, scripted

pytestmark = pytest.mark.daemon
BACKENDS = {"hung": scripted()}
SERVER = {"max_concurrent_runs": 2, "queue_size": 2}
FREE = 3.0


def cancellations(daemon):
    note = daemon.notes / "cancelled"
    return len(note.read_text().splitlines()) if note.exists() else 0


@pytest.mark.parametrize("how", ["close", "reset"])
async def test_a_caller_who_leaves_in_mid_stream_has_the_agent_cancelled_and_the_slot_free(daemon, how):
    before = cancellations(daemon)
    async with daemon.client.stream("{{spawn:setsid}}w{{pace:9999,0.02}}") as events:
        await events.until("w")
        if how == "reset":
            events.reset()
    began = trio.current_time()
    await become_true(lambda: cancellations(daemon) == before + 1, FREE)
    await become_true(lambda: not daemon.strays(), FREE)
    for _ in range(2):  # as many as there are slots
        assert (await daemon.client.ask("next")).json["output"] == "next"
    assert trio.current_time() - began < FREE


async def test_a_caller_who_leaves_a_hung_agent_frees_the_slot_too(daemon):
    async with daemon.client.stream("w{{pace:150,0.02}}") as other:
        await other.until("w")
        async with daemon.client.stream("w{{deaf}}{{hang}}", "hung") as events:
            await events.until("w")
        began = trio.current_time()
        assert (await daemon.client.ask("next")).json["output"] == "next"
        assert trio.current_time() - began < FREE
        assert (await other.to_end()).code == ""


async def test_a_caller_who_leaves_before_the_first_event_leaves_nothing(daemon):
    def ended():
        return [line["outcome"] for line in daemon.logged("run ended")].count("cancelled")

    before = ended()
    with trio.move_on_after(0.3):
        await daemon.client.ask("{{wait:30}}")
    await become_true(lambda: ended() == before + 1, 3)
    daemon.client.unseen += 1


async def test_f46_more_runs_than_the_line_holds_are_told_to_come_back(daemon):
    async with trio.open_nursery() as nursery:
        for _ in range(12):
            nursery.start_soon(daemon.client.ask, "{{wait:0.3}}w")
    codes = [answer.code for answer in daemon.client.answers]
    assert codes.count("") == 4  # two run, two wait
    assert codes.count("server_busy") == 8
    refused = next(answer for answer in daemon.client.answers if answer.code == "server_busy")
    assert (refused.status, int(refused.headers["retry-after"])) == (503, 1)


async def test_a_reader_that_stalls_harms_no_other(daemon):
    async with daemon.client.stream("{{flood:20000}}", receive_buffer=4096) as stalled:
        await trio.sleep(0.1)
        for _ in range(5):
            with trio.fail_after(2):
                assert (await daemon.client.ask("quick")).json["output"] == "quick"
        await stalled.to_end()
        assert stalled.code == ""


async def test_a_run_can_be_cancelled_by_another_caller_once(daemon):
    async with daemon.client.stream("w{{pace:9999,0.02}}") as events:
        await events.until("w")
        path = f"/api/v1/runs/{events.run_id}/cancel"
        assert (await daemon.client.call("POST", path)).json["cancelled"] is True
        await events.to_end()
        assert events.code == "cancelled"
