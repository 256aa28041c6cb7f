"""Codex as it was recorded: what its lines become, and what it is answered. `test_codex_real` has the live one."""

from typing import Any

import pytest
import trio
import trio.testing

from actors.driver import LinkClosed
from actors.errors import Code, Refusal
from actors.messages import (
    Complete,
    Message,
    Options,
    Prompt,
    Start,
    Thinking,
    ToolResult,
    ToolUse,
    Usage,
)
from actors.outbox import Outbox
from tests.backends.codex_script import Script, ended, notice, started
from tests.backends.harness import Asked, no_tools, only, run_turn, text_of

HELLO = Start("gpt", "/ws")


async def test_reasoning_and_answer_come_in_pieces():
    assert await Script.of("thinking").turn() == [
        HELLO,
        *map(Thinking, ("let", " me", " think")),
        *map(Message, ("echo:", " hi", " [[think:let", " me", " think]]")),
        Complete("end_turn", Usage(14708, 8, 3, 3)),
    ]


async def test_a_command_is_a_tool_and_the_tokens_of_both_calls_of_the_model_count():
    script = Script.of("command")
    events = await script.turn()
    command = "/bin/bash -lc 'echo hi; exit 3'"
    use = ToolUse("item-1", "command_execution", {"command": command, "cwd": "/ws"})
    assert events[:4] == [HELLO, Message("calling"), use, ToolResult("item-1", "hi\n", is_error=True)]
    assert text_of(events).startswith("calling\n\ntool-result: ")
    first, second = (
        line["params"]["tokenUsage"]["last"]["inputTokens"]
        for line in Script.of("command").lines
        if line.get("method") == "thread/tokenUsage/updated"
    )
    assert events[-1].token_usage.input_tokens == first + second
    assert events[-1].token_usage.cached_tokens == 6


async def test_a_turn_with_tools_leaves_no_command_in_the_background():
    script = Script.of("background")
    events = await script.turn()
    [result] = only(events, ToolResult)
    assert result == ToolResult("item-1", "still running at the end of the turn: stopped", is_error=True)
    assert script.methods()[-1] == "thread/backgroundTerminals/clean"


async def test_leave_is_asked_and_given():
    script, ask = Script.of("command-allowed"), Asked("allow")
    events = await script.turn(ask)
    [asked] = ask.asked
    assert (asked.tool, asked.options) == ("command_execution", ("allow", "deny"))
    assert asked.input == {"command": "/bin/bash -lc 'touch a && echo done'", "cwd": "/ws"}
    assert {"id": 0, "result": {"decision": "accept"}} in script.sent
    assert only(events, ToolResult) == [ToolResult("item-1", "done\n")]
    assert events[-1].denied == ()


@pytest.mark.parametrize(
    ("name", "tool"), [("command-declined", "command_execution"), ("patch-declined", "file_change")]
)
async def test_what_is_denied_is_an_error_and_named(name, tool):
    script, ask = Script.of(name), Asked("deny")
    events = await script.turn(ask)
    assert [asked.tool for asked in ask.asked] == [tool]
    assert ask.asked[0].input == only(events, ToolUse)[0].input
    assert {"id": 0, "result": {"decision": "decline"}} in script.sent
    [use], [result] = only(events, ToolUse), only(events, ToolResult)
    assert use.name == tool
    assert result.is_error
    assert events[-1].denied == (tool,)


async def test_what_a_retry_repeats_is_said_once():
    events = await Script.of("cut").turn()
    said = next(line["params"]["item"]["text"] for line in Script.of("cut").lines if _is_message(line))
    assert text_of(events) == said
    assert "".join(event.text for event in only(events, Thinking)) == "hm hm"
    assert isinstance(events[-1], Complete)


def _is_message(line: dict[str, Any]) -> bool:
    return line.get("method") == "item/completed" and line["params"]["item"]["type"] == "agentMessage"


async def test_a_refusal_is_not_retried():
    script = Script.of("refused")
    script.lines.insert(
        next(index for index, line in enumerate(script.lines) if line.get("method") == "error") + 1,
        {"pause": "turn/interrupt"},
    )
    events = await script.turn()
    assert events[-1].code == Code.REFUSED
    assert text_of(events).count("echo:") == 1
    assert "turn/interrupt" in script.methods()


async def test_a_model_at_its_limit_is_no_failure():
    events = await Script.of("max-tokens").turn()
    assert text_of(events) == "echo: much [[max]]"
    assert events[-1].stop_reason == "max_tokens"


async def test_an_interrupted_turn_ends_with_its_commands():
    script = Script.of("interrupted")
    conversation = await script.link.open(Options(workdir="/ws"), None)
    with trio.move_on_after(0.02):
        await script.link.turn(conversation, Prompt("hi"), Outbox(), Asked(), no_tools)
    await script.link.interrupt(conversation)
    assert script.methods()[-2:] == ["turn/interrupt", "thread/backgroundTerminals/clean"]
    assert script.sent[-2]["params"] == {"threadId": script.thread, "turnId": "uuid-0"}


@pytest.mark.usefixtures("autojump_clock")
async def test_a_turn_that_codex_knows_nothing_of_is_over():
    script = Script([started(), {"pause": "for ever"}, started(), ended()], refuse="turn/interrupt")
    conversation = await script.link.open(Options(workdir="/ws"), None)
    with trio.move_on_after(1):
        await script.link.turn(conversation, Prompt("hi"), Outbox(), Asked(), no_tools)
    await script.link.interrupt(conversation)
    assert script.methods().count("turn/interrupt") == 3
    assert await run_turn(script.link, conversation, "hi") == [HELLO, Complete("end_turn")]


async def test_subagents_are_paid_for_and_not_heard():
    script = Script.of("subagent")
    events = await script.turn()
    assert text_of(events) == "done"
    assert [use.name for use in only(events, ToolUse)] == ["wait"]
    assert events[-1].token_usage == Usage(50, 10, 5, 0)
    cleaned = [message["params"]["threadId"] for message in script.sent[-2:]]
    assert cleaned == [script.thread, "uuid-3"]


async def test_a_busy_thread_is_not_steered():
    script = Script([started(), {"pause": "for ever"}])
    conversation = await script.link.open(Options(workdir="/ws"), None)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(script.link.turn, conversation, Prompt("hi"), Outbox(), Asked(), no_tools)
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(Refusal) as refused:
            await script.link.turn(conversation, Prompt("hi"), Outbox(), Asked(), no_tools)
        nursery.cancel_scope.cancel()
    assert refused.value.code == Code.SESSION_BUSY
    assert script.methods().count("turn/start") == 1


async def test_the_end_of_the_process_reaches_whoever_waits():
    script = Script([started(), {"pause": "for ever"}])
    conversation = await script.link.open(Options(workdir="/ws"), None)
    async with trio.open_nursery() as nursery:

        @nursery.start_soon
        async def end():
            await trio.testing.wait_all_tasks_blocked()
            script.link.closed()

        with pytest.raises(LinkClosed):
            await script.link.turn(conversation, Prompt("hi"), Outbox(), Asked(), no_tools)
    with pytest.raises(LinkClosed):
        await script.link.open(Options(workdir="/ws"), None)


async def test_nonsense_is_counted_and_survived():
    script = Script(
        [started(), {"method": "turn/completed", "params": {"thread": 1}}, {"method": "new/thing"}]
    )
    script.lines.append(ended())
    for line in (b"", b"not json", b"[1]", b'{"id":1,"result":', b"\xff\xfe", b"[" * 100_000):
        script.link.feed(line)
    assert (await script.turn())[-1] == Complete("end_turn")
    assert script.link.unparsed == 7


async def test_a_request_that_we_do_not_know_is_refused_and_never_left_open():
    call = {"id": 5, "method": "account/chatgptAuthTokens/refresh", "params": {"reason": "x"}}
    broken = {"id": 6, "method": "item/fileChange/requestApproval", "params": {"threadId": 7}}
    script = Script([started(), call, broken, ended()])
    assert (await script.turn())[-1] == Complete("end_turn")
    assert [message["error"]["code"] for message in script.sent if "error" in message] == [-32601, -32601]


async def test_questions_and_forms_get_an_answer_though_nobody_is_there():
    ask = Asked("allow")
    question = notice("item/tool/requestUserInput", itemId="i", questions=[]) | {"id": 5}
    form = notice("mcpServer/elicitation/request", serverName="m", message="name?", _meta=None) | {"id": 6}
    script = Script([started(), question, form, ended()])
    await script.turn(ask)
    assert {"id": 5, "result": {"answers": {}}} in script.sent
    assert {"id": 6, "result": {"action": "decline"}} in script.sent
    assert ask.asked == []


@pytest.mark.parametrize(
    ("answer", "result"),
    [
        ("allow", {"action": "accept", "content": {}, "_meta": None}),
        ("allow_always", {"action": "accept", "content": {}, "_meta": {"persist": "session"}}),
        ("deny", {"action": "decline"}),
    ],
)
async def test_a_call_of_an_mcp_server_asks_leave(answer, result):
    meta = {"codex_approval_kind": "mcp_tool_call", "persist": ["session", "always"], "tool_params": {"a": 1}}
    asks = notice("mcpServer/elicitation/request", serverName="m", message="Allow it?", _meta=meta)
    script, ask = Script([started(), asks | {"id": 5}, ended()]), Asked(answer)
    events = await script.turn(ask)
    assert ask.asked[0].tool == "mcp__m"
    assert ask.asked[0].input == {"message": "Allow it?", "arguments": {"a": 1}}
    assert {"id": 5, "result": result} in script.sent
    assert events[-1].denied == (("mcp__m",) if answer == "deny" else ())


async def test_more_permissions_are_granted_for_the_turn_or_not_at_all():
    wanted = {"network": {"enabled": True}, "fileSystem": None}
    asks = notice("item/permissions/requestApproval", itemId="i", cwd="/ws", permissions=wanted)
    for answer, granted in (("allow", {"network": {"enabled": True}}), ("deny", {})):
        script = Script([started(), asks | {"id": 5}, ended()])
        await script.turn(Asked(answer))
        assert {"id": 5, "result": {"permissions": granted, "scope": "turn"}} in script.sent
