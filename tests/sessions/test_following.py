"""Runs over REST: followed from any event however often the connection breaks, detached, cancelled, left."""

import random

import pytest
import trio

from tests.sessions.support import check_whole, ended, error_of, following, look, prompt, replay, streaming

WORDS = 297
EVENTS = WORDS + 3
"""Start, the word before the paced ones, and the end."""
CONNECTIONS = 5


async def started(client, text, **fields):
    answer = await prompt(client, text, backend="scripted", detach=True, **fields)
    assert answer.json.keys() == {"run_id", "session_id"}, answer
    return answer.json["run_id"]


async def read_in_pieces(client, run, dice, how):
    """All events over five connections; the first four are cut wherever it comes to."""
    seen = []
    for connection in range(CONNECTIONS):
        after = seen[-1]["seq"] if seen else 0
        where = {"after": after} if how == "after" else {"last-event-id": str(after)} if after else {}
        async with following(client, run, **where) as events:
            assert events.status == 200, events.refusal
            wanted = len(seen) + dice.randint(1, EVENTS // CONNECTIONS)
            while await events.more():
                if connection < CONNECTIONS - 1 and len(seen) + len(events.events) >= wanted:
                    # What is in the buffers by now is lost to this reader, as on a real line.
                    del events.events[dice.randint(1, len(events.events)) :]
                    events.reset()
                    break
            seen.extend(events.events)
    return seen


@pytest.mark.parametrize("how", ["after", "last-event-id"])
@pytest.mark.parametrize("when", ["going", "finished"])
async def test_300_events_over_five_broken_connections_each_once_and_in_order(client, how, when):
    seed = random.randrange(1 << 32)  # noqa: S311 - places are no secrets
    dice = random.Random(seed)  # noqa: S311 - places are no secrets
    run = await started(client, f"w{{{{pace:{WORDS},0.004}}}}")
    if when == "finished":
        await ended(client, run)
    seen = await read_in_pieces(client, run, dice, how)
    check_whole(seen)
    assert len(seen) == EVENTS, seed
    assert seen == await replay(client, run)


async def test_300_events_over_five_broken_connections_and_a_restart(client, daemon):
    run = await started(client, f"w{{{{pace:{WORDS},0.001}}}}")
    async with following(client, run) as events:
        await events.until("100")
        first = events.events
    await ended(client, run)
    assert daemon.stop() == 0
    daemon.start()
    daemon.wait_listening()
    rest = await replay(daemon.client, run, first[-1]["seq"])
    check_whole(first + rest)
    assert len(first + rest) == EVENTS
    for how in ("after", "last-event-id"):
        seen = await read_in_pieces(daemon.client, run, random.Random(1), how)  # noqa: S311 - places
        check_whole(seen)
        assert seen == first + rest


async def test_many_readers_at_once_get_the_same(client):
    run = await started(client, f"w{{{{pace:{WORDS},0.002}}}}")
    seen = []

    async def read(delay):
        await trio.sleep(delay)
        seen.append(await replay(client, run))

    async with trio.open_nursery() as nursery:
        for number in range(20):
            nursery.start_soon(read, number * 0.06)
    assert all(events == seen[0] for events in seen)
    check_whole(seen[0])


async def test_the_stream_and_its_replay_are_the_same(client):
    async with streaming(client, "one two {{pace:50,0}} three", backend="scripted") as events:
        await events.to_end()
    check_whole(events.events)
    assert await replay(client, events.run_id) == events.events
    await trio.sleep(1)
    assert await replay(client, events.run_id) == events.events, "now from the store alone"


async def test_ndjson_is_had_by_asking(client):
    run = await started(client, "a b c")
    await ended(client, run)
    answer = await client.call(
        "GET", f"/api/v1/runs/{run}/events", headers={"accept": "application/x-ndjson"}
    )
    assert answer.headers["content-type"] == "application/x-ndjson"
    assert [line.count(b'"seq":') for line in answer.body.splitlines()] == [1] * 5


async def test_a_reader_that_has_everything_gets_an_empty_end(client):
    run = await started(client, "a b c")
    await ended(client, run)
    for after in (5, 6, 999_999):
        assert await replay(client, run, after) == []
    await trio.sleep(0.8)
    for after in (5, 6, 999_999):
        assert await replay(client, run, after) == []


@pytest.mark.parametrize("after", ["-1", "x", "1.5", "", "9" * 20, "²"])
async def test_what_is_no_number_of_an_event_is_refused(client, after):
    run = await started(client, "a")
    answer = await client.get(
        f"/api/v1/runs/{run}/events?after={after.encode().hex() if after == '²' else after}"
    )
    if after != "²":
        assert error_of(answer) == (400, "invalid_request", "after")


async def test_an_unknown_run_is_not_found(client):
    for method, path, body in [
        ("GET", "", None),
        ("GET", "/events", None),
        ("POST", "/cancel", None),
        ("POST", "/permissions/p", {"option": "allow"}),
    ]:
        answer = await client.call(method, f"/api/v1/runs/run_0{path}", body)
        assert error_of(answer)[:2] == (404, "not_found")


# How a run ends.


async def test_a_detached_run_goes_on_by_itself_and_is_found(client):
    run = await started(client, "w{{wait:0.7}}done")
    assert (await look(client, run))["status"] == "running"
    found = await ended(client, run)
    assert (found["status"], found["backend"], found["outcome"]["output"]) == (
        "complete",
        "scripted",
        "wdone",
    )
    assert found["began"] < found["ended"]
    await trio.sleep(0.8)
    assert await look(client, run) == found
    check_whole(await replay(client, run))


async def test_a_detached_run_cannot_be_ephemeral(client):
    answer = await prompt(client, "x", backend="scripted", detach=True, ephemeral=True)
    assert error_of(answer) == (400, "invalid_request", "detach")


async def test_a_run_is_cancelled_once(client):
    run = await started(client, "w{{wait:30}}")
    async with following(client, run) as events:
        await events.until("w")
        assert (await client.call("POST", f"/api/v1/runs/{run}/cancel")).json == {
            "run_id": run,
            "cancelled": True,
        }
        await events.to_end()
    assert events.code == "cancelled"
    for _ in range(2):
        assert (await client.call("POST", f"/api/v1/runs/{run}/cancel")).json["cancelled"] is False
        await trio.sleep(0.8)


async def test_cancelling_a_finished_run_changes_nothing(client):
    run = await started(client, "a b")
    found = await ended(client, run)
    assert (await client.call("POST", f"/api/v1/runs/{run}/cancel")).json["cancelled"] is False
    assert await look(client, run) == found


async def test_an_attached_run_ends_when_its_reader_has_left_for_longer_than_the_grace(client):
    async with streaming(client, "w{{wait:30}}", backend="scripted") as events:
        await events.until("w")
        events.reset()
    began = trio.current_time()
    found = await ended(client, events.run_id)
    assert 0.3 < trio.current_time() - began < 2
    assert (found["status"], found["outcome"]["code"]) == ("error", "cancelled")
    check_whole(await replay(client, events.run_id))


async def test_a_reader_who_comes_back_within_the_grace_finds_its_run_going(client):
    async with streaming(client, f"w{{{{pace:{WORDS},0.005}}}}", backend="scripted") as events:
        await events.until("w")
        events.reset()
    seen = events.events
    for _ in range(3):
        await trio.sleep(0.2)
        async with following(client, events.run_id, seen[-1]["seq"]) as more:
            assert await more.more()
            more.reset()
            seen.extend(more.events)
    seen.extend(await replay(client, events.run_id, seen[-1]["seq"]))
    check_whole(seen)
    assert (seen[-1]["type"], len(seen)) == ("complete", EVENTS)


async def test_a_run_is_found_at_the_very_moment_it_goes(client):
    """Its actor ends when the grace is over; whoever asks just then is answered from the store."""
    run = await started(client, "a b c")
    await ended(client, run)
    with trio.move_on_after(0.8):
        while True:
            check_whole(await replay(client, run))
            await look(client, run)
            await trio.sleep(random.uniform(0.0, 0.02))  # noqa: S311 - a pause
    for pause in range(6):
        run = await started(client, "a b c")
        await ended(client, run)
        await trio.sleep(0.485 + pause * 0.006)
        check_whole(await replay(client, run))
        assert (await client.call("POST", f"/api/v1/runs/{run}/cancel")).json["cancelled"] is False
