"""What can be asked over one websocket: /api/v1/ws (contract, section 6)."""

import json
from itertools import pairwise

import pytest

from tests.api.support import eventually
from tests.api.websocket.support import connected, finished_run, status_of
from tests.support.daemon import become_true

EVENT = {"type", "backend", "content", "timestamp", "run_id", "seq", "session_id", "ref"}


@pytest.mark.daemon
async def test_a_prompt_is_answered_by_the_events_of_the_native_stream_with_its_ref(daemon):
    async with connected(daemon) as line:
        await line.send("prompt", ref="my ref \N{SNOWMAN}", prompt="one two", backend="scripted")
        await line.ends("my ref \N{SNOWMAN}")
        told = line.of("my ref \N{SNOWMAN}")
        assert told == line.told
        assert all(event.keys() == EVENT for event in told)
        assert [event["seq"] for event in told] == list(range(1, len(told) + 1))
        assert [event["type"] for event in told] == ["start", "message", "message", "complete"]
        assert told[-1]["content"]["output"] == "one two"
        native = (await daemon.client.get(f"/api/v1/runs/{told[0]['run_id']}/events")).body.decode()
        stored = [json.loads(data[6:]) for data in native.splitlines() if data.startswith("data: ")]
        assert [{**event, "ref": "my ref \N{SNOWMAN}"} for event in stored] == told


@pytest.mark.daemon
async def test_the_fields_of_a_prompt_are_honoured_and_a_session_goes_on(daemon):
    async with connected(daemon) as line:
        fields = {"stream": True, "output_format": "stream-json", "verbose": True, "tags": ["t"]}
        await line.send("prompt", ref="a", prompt="first", backend="scripted", **fields)
        await line.ends("a")
        session = line.told[0]["session_id"]
        await line.send("prompt", ref="b", prompt="second", session_id=session)
        await line.ends("b")
        assert {event["session_id"] for event in line.told} == {session}
        assert line.text("b") == "second"
    assert (await daemon.client.get(f"/api/v1/sessions/{session}")).json["session"]["tags"] == ["t"]


@pytest.mark.daemon
async def test_twenty_runs_on_one_connection_each_have_their_exact_text(daemon):
    async with connected(daemon) as line:
        for number in range(20):
            script = f"run {number}:{{{{pace:20,0.01}}}} end {number}"
            await line.send("prompt", ref=str(number), prompt=script, backend="scripted")
        await line.ends(*map(str, range(20)))
        for number in range(20):
            told = line.of(str(number))
            paced = "".join(f" {word}" for word in range(20))
            assert line.text(str(number)) == f"run {number}:{paced} end {number}"
            assert told[-1]["content"]["output"] == line.text(str(number))
            assert [event["seq"] for event in told] == list(range(1, len(told) + 1))
            assert len({event["run_id"] for event in told}) == 1
        order = [event["ref"] for event in line.told]
        assert sum(one != other for one, other in pairwise(order)) > 40  # interleaved


@pytest.mark.daemon
async def test_a_running_run_is_attached_from_the_middle_without_a_gap(daemon):
    async with connected(daemon) as one, connected(daemon) as other:
        await one.send("prompt", ref="a", prompt="{{count:50}}{{wait:0.3}} end", backend="scripted")
        run_id = await one.begun("a")
        await other.send("attach", ref="b", run_id=run_id, after=10)
        await other.send("attach", ref="c", run_id=run_id)
        await one.ends("a")
        await other.ends("b", "c")
        assert [event["content"] for event in other.of("b")] == [
            event["content"] for event in one.of("a")[10:]
        ]
        assert [event["seq"] for event in other.of("c")] == [event["seq"] for event in one.of("a")]


@pytest.mark.daemon
async def test_a_finished_run_is_told_from_the_store(daemon):
    run_id = await finished_run(daemon)
    await eventually(lambda: _stored(daemon, run_id))
    async with connected(daemon) as line:
        await line.send("attach", ref="a", run_id=run_id)
        await line.ends("a")
        await line.send("attach", ref="b", run_id=run_id, after=3)
        await line.ends("b")
        last = line.of("a")[-1]["seq"]
        assert line.text("a") == "one two three"
        assert [event["seq"] for event in line.of("b")] == list(range(4, last + 1))
        for after in (last, last + 100):
            ended = await line.ask("attach", ref="c", run_id=run_id, after=after)
            assert ended == {"type": "ended", "ref": "c", "run_id": run_id}


async def _stored(daemon, run_id):
    return (await status_of(daemon, run_id)) == "complete"


@pytest.mark.daemon
async def test_a_run_is_cancelled_and_tells_its_end(daemon):
    async with connected(daemon) as line:
        await line.send("prompt", ref="a", prompt="said {{wait:20}}", backend="scripted")
        run_id = await line.begun("a")
        await line.send("cancel", run_id=run_id, ref="c")
        answer = await line.until(lambda event: event["type"] == "cancelled")
        assert answer == {"type": "cancelled", "ref": "c", "run_id": run_id, "cancelled": True}
        await line.ends("a")
        assert line.of("a")[-1]["content"] == {
            "code": "cancelled",
            "message": "the run was cancelled",
            "type": "api_error",
        }
        answer = await line.ask("cancel", run_id=run_id)
        assert answer == {"type": "cancelled", "run_id": run_id, "cancelled": False}
    await become_true(lambda: not daemon.strays(), 2)


@pytest.mark.daemon
async def test_a_run_that_has_told_nothing_yet_is_cancelled_by_its_ref(daemon):
    async with connected(daemon) as line:
        await line.send("prompt", ref="a", prompt="{{wait:20}}", backend="scripted")
        await line.send("cancel", ref="a")
        answer = await line.until(lambda event: event["type"] == "cancelled")
        assert (answer["ref"], answer["cancelled"]) == ("a", True)
        await line.ends("a")
        assert line.of("a")[-1]["content"]["code"] == "cancelled"
        answer = await line.ask("cancel", ref="a")
        assert (answer["content"]["code"], answer["content"]["param"]) == ("not_found", "ref")


@pytest.mark.daemon
@pytest.mark.parametrize(("option", "told"), [("allow", "told y"), ("deny", "told n")])
async def test_a_permission_is_answered_over_the_websocket(daemon, option, told):
    async with connected(daemon) as line:
        await line.send(
            "prompt", ref="a", prompt="{{ask}}{{wait:20}}", backend="asking", approval_mode="always"
        )
        asked = await line.until(lambda event: event["type"] == "permission")
        permission = {"run_id": asked["run_id"], "id": asked["content"]["id"]}
        assert set(asked["content"]["options"]) == {"allow", "deny"}
        refused = await line.ask("permission", **permission, option="maybe", ref="p")
        assert (refused["ref"], refused["content"]["param"]) == ("p", "option")
        await line.send("permission", **permission, option=option, ref="p")
        answer = await line.until(lambda event: event["type"] == "answered")
        assert answer == {"type": "answered", "ref": "p", **permission, "option": option}
        await line.ends("a")
        assert line.text("a") == told
        refused = await line.ask("permission", **permission, option=option)
        assert refused["content"]["code"] == "not_found"


@pytest.mark.daemon
async def test_a_failed_turn_and_a_busy_session_are_events_of_their_runs(daemon):
    async with connected(daemon) as line:
        await line.send("prompt", ref="a", prompt="{{exit:3}}", backend="scripted")
        await line.ends("a")
        assert line.of("a")[-1]["content"]["code"] == "backend_crashed"
        await line.send("prompt", ref="b", prompt="x {{wait:20}}", backend="scripted")
        run_id = await line.begun("b")
        session = line.of("b")[-1]["session_id"]
        await line.send("prompt", ref="c", prompt="y", session_id=session)
        await line.ends("c")
        assert line.told[-1]["content"]["code"] == "session_busy"
        await line.send("cancel", run_id=run_id)
        await line.ends("b")
