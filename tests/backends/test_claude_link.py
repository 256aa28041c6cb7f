"""What a claude link answers, and how it goes on: leave, interrupts, other conversations, nonsense."""

import time

import pytest
import trio
import trio.testing

from actors.driver import LinkClosed
from actors.errors import Code, Refusal
from actors.messages import Prompt
from actors.outbox import Outbox
from clinvoker.backends.claude_link import ClaudeLink
from tests.backends.claude_wire import SCHEMA, Wire, recorded
from tests.backends.harness import Asked, no_tools


async def test_a_retry_that_will_not_help_is_cut_short_at_once():
    retry = {"type": "system", "subtype": "api_retry", "retry_delay_ms": 63135, "error_status": 429}
    wire = Wire()
    out = Outbox()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(wire.link.turn, "the-id", Prompt("hi"), out, Asked(), no_tools)
        await wire.said.wait()
        wire.play(retry)
        (failed,) = await out.take()
        assert (failed.code, failed.retry_after) == (Code.BACKEND_RATE_LIMITED, pytest.approx(63.135))
        await trio.testing.wait_all_tasks_blocked()
        assert wire.written[-1]["request"]["subtype"] == "interrupt"
        wire.play({"type": "result", "subtype": "error_during_execution", "is_error": True})


async def test_an_unknown_conversation_is_not_found():
    wire = Wire()
    wire.answers = {}
    wire.link = ClaudeLink(wire.send, "x", resumed=True)

    async def dies(_data):
        wire.play(*recorded("resume_missing"))
        wire.link.closed()

    wire.link._control._send = dies
    with pytest.raises(Refusal) as refusal:
        await wire.link.handshake()
    assert refusal.value.code is Code.NOT_FOUND


async def test_a_process_that_ends_in_a_turn_closes_the_link():
    wire = Wire()
    out = Outbox()

    async def turn():
        with pytest.raises(LinkClosed):
            await wire.link.turn("the-id", Prompt("hi"), out, Asked(), no_tools)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(turn)
        await wire.said.wait()
        wire.link.closed()


async def test_a_message_taken_back_before_it_became_a_turn_has_no_result():
    wire = Wire()
    with trio.move_on_after(0.01):
        await wire.link.turn("the-id", Prompt("hi"), Outbox(), Asked(), no_tools)
    wire.answers["interrupt"] = {
        "subtype": "success",
        "response": {"still_queued": [], "cancelled": [wire.written[-1]["uuid"]]},
    }
    with trio.fail_after(1):
        await wire.link.interrupt("the-id")


@pytest.mark.parametrize(
    "line", [b"", b"not json", b"[]", b"1", b"{}", b'{"type": 7}', b"\xff\xfe", b"[" * 100_000]
)
async def test_nonsense_is_counted(line):
    wire = Wire()
    wire.link.feed(line)
    assert wire.link.unparsed == 1


@pytest.mark.parametrize("leave", ["allow", "allow_always", "deny"])
async def test_a_permission_is_asked_and_answered(leave):
    suggestion = {
        "type": "addRules",
        "rules": [{"toolName": "Bash"}],
        "behavior": "allow",
        "destination": "localSettings",
    }
    request = {
        "subtype": "can_use_tool",
        "tool_name": "Bash",
        "input": {"command": "ls"},
        "permission_suggestions": [suggestion],
    }
    wire = Wire()
    asked = Asked(leave)
    answered = trio.Event()

    async def ask(permission):
        answered.set()
        return await asked(permission)

    out = Outbox()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(wire.link.turn, "the-id", Prompt("hi"), out, ask, no_tools)
        await wire.said.wait()
        wire.play({"type": "control_request", "request_id": "r1", "request": request})
        await answered.wait()
        await trio.testing.wait_all_tasks_blocked()
        wire.play({"type": "result", "subtype": "success"})
    answer = wire.written[-1]["response"]
    assert answer["request_id"] == "r1"
    assert answer["response"]["behavior"] == ("deny" if leave == "deny" else "allow")
    rules = answer["response"].get("updatedPermissions")
    assert rules == ([{**suggestion, "destination": "session"}] if leave == "allow_always" else None)
    assert asked.asked[0].options == ("allow", "allow_always", "deny")


async def test_another_schema_in_the_same_conversation_is_refused():
    wire = Wire()
    await wire.turn(recorded("schema"), Prompt("hi", schema=SCHEMA))
    with pytest.raises(Refusal) as refusal:
        await wire.link.turn("the-id", Prompt("hi"), Outbox(), Asked(), no_tools)
    assert (refusal.value.code, refusal.value.param) == (Code.UNSUPPORTED, "schema")


@pytest.mark.slow
async def test_fifty_thousand_deltas_cost_little():
    delta = (
        b'{"type":"stream_event","event":{"type":"content_block_delta","index":0,"delta":{"type":"text_delta",'
        b'"text":" word"}},"session_id":"66a22dd1-943e-46d1-84e1-5b8a3ac2e9b5","parent_tool_use_id":null,'
        b'"uuid":"3d2e349d-5cbe-49ea-9745-551c0220880c","api_message_id":"msg_fake00010"}'
    )
    wire = Wire()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(wire.link.turn, "the-id", Prompt("hi"), Outbox(), Asked(), no_tools)
        await wire.said.wait()
        began = time.process_time()
        for _ in range(50_000):
            wire.link.feed(delta)
        spent = time.process_time() - began
        nursery.cancel_scope.cancel()
    assert spent < 0.3
