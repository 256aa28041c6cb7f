"""What recorded ACP agents (gemini 0.61.0, opencode 1.18.33) said, and the events that are made of it."""

import pytest

from actors.errors import Code
from actors.messages import Complete, Failed, Message, Start, Thinking, ToolResult, ToolUse, Usage
from tests.backends.acp_player import Player, chunk, end, update
from tests.backends.harness import only, text_of

AGENTS = ["gemini", "opencode"]
GEMINI_START = Start("auto", "/ws")
OPENCODE_START = Start("fake/fake-model", "/ws")


# Turns.


async def test_a_turn_of_gemini(play):
    events, _ = await play("gemini", "turn")
    usage = events[-1].token_usage
    assert events == [GEMINI_START, Message("echo:"), Message(" hi"), Complete("end_turn", usage)]
    assert (usage.input_tokens > 0, usage.output_tokens, usage.cost_usd) == (True, 2, None)


async def test_a_turn_of_opencode(play):
    events, _ = await play("opencode", "turn")
    usage = events[-1].token_usage
    assert events == [OPENCODE_START, Message("echo:"), Message(" hi"), Complete("end_turn", usage)]
    assert (usage.output_tokens, usage.cached_tokens, usage.cost_usd) == (2, 3, 0.0)


async def test_reasoning_is_not_part_of_the_answer(play):
    events, _ = await play("opencode", "thinking")
    assert only(events, Thinking) == [Thinking("deep"), Thinking(" thought")]
    assert text_of(events) == "echo: [[think:deep thought]] a"
    assert events[-1].token_usage.reasoning_tokens == 2
    events, _ = await play("gemini", "thinking")
    assert only(events, Thinking) == [Thinking("****\ndeep"), Thinking("****\nthought")]


@pytest.mark.parametrize("agent", AGENTS)
async def test_half_characters_are_joined(play, agent):
    events, _ = await play(agent, "surrogates")
    assert text_of(events) == "pair \U0001f642 joined"


@pytest.mark.parametrize("agent", AGENTS)
async def test_a_block_that_is_told_again_is_read_once(play, agent):
    events, _ = await play(agent, "told_again")
    assert text_of(events) == "echo: [[mid:erroronce]] a b"
    assert isinstance(events[-1], Complete)


async def test_a_pause_alone_is_no_retry(monkeypatch):
    player = Player("gemini", monkeypatch)
    await player.open()
    words = ["one", " two", {"pause": 5}, " one", {"pause": 5}, "\none"]
    events = await player.turn([*map(chunk, words), end("end_turn")])
    assert text_of(events) == "one two one\none"


async def test_repeated_words_without_a_pause_are_the_models_own(monkeypatch):
    player = Player("gemini", monkeypatch)
    await player.open()
    events = await player.turn([*map(chunk, ["ha", "ha", "ha"]), end("end_turn")])
    assert text_of(events) == "hahaha"


async def test_an_empty_answer_is_an_answer(play):
    events, _ = await play("opencode", "empty")
    assert [type(event) for event in events] == [Start, Complete]


async def test_an_answer_that_broke_off_for_good_is_no_success(play):
    events, _ = await play("gemini", "broke_off")
    assert text_of(events) == "echo: [[mid:error]] a"
    assert (type(events[-1]), events[-1].code) == (Failed, Code.BACKEND_ERROR)


@pytest.mark.parametrize(
    ("reason", "ending"),
    [
        ("end_turn", Complete("end_turn")),
        ("max_tokens", Complete("max_tokens")),
        ("max_turn_requests", Complete("max_turns")),
        ("refusal", Failed(Code.REFUSED, "the model refused to answer")),
        ("cancelled", Failed(Code.CANCELLED, "the agent cancelled the turn")),
        ("of_tomorrow", Complete("end_turn")),
    ],
)
async def test_every_stop_reason_has_its_ending(reason, ending):
    player = Player("gemini")
    await player.open()
    assert (await player.turn([end(reason)]))[-1] == ending


async def test_the_cost_of_a_turn_is_what_the_session_grew_by():
    player = Player("opencode")
    await player.open()
    cost = {"sessionUpdate": "usage_update", "cost": {"amount": 0.25, "currency": "USD"}}
    first = await player.turn([update(cost), end("end_turn")])
    second = await player.turn(
        [update({**cost, "cost": {"amount": 0.4, "currency": "USD"}}), end("end_turn")]
    )
    assert [events[-1].token_usage for events in (first, second)] == [
        Usage(cost_usd=0.25),
        Usage(cost_usd=0.15),
    ]


# Tools and leave.


@pytest.mark.parametrize(
    ("agent", "name", "tool_input", "output"),
    [
        ("gemini", "run_shell_command", {"title": "touch made.txt"}, ""),
        ("opencode", "bash", {"command": "echo hi", "description": "say hi", "cwd": "/ws"}, "hi\n"),
    ],
)
async def test_a_tool_that_runs_is_one_use_and_one_result(play, agent, name, tool_input, output):
    events, _ = await play(agent, "tool_allowed")
    [use], [result] = only(events, ToolUse), only(events, ToolResult)
    assert (use.name, use.input | tool_input, use.id) == (name, use.input, result.id)
    assert (result.output, result.is_error) == (output, False)
    assert text_of(events).startswith("calling\n\ntool-result:")


@pytest.mark.parametrize("agent", AGENTS)
async def test_a_tool_that_was_refused_is_an_error_told_once(play, agent):
    events, player = await play(agent, "tool_denied", leave="deny")
    [permission] = player.asked.asked
    [use], [result] = only(events, ToolUse), only(events, ToolResult)
    assert (permission.tool, permission.options) == (use.name, ("allow", "allow_always", "deny"))
    assert (result.id, result.is_error) == (use.id, True)
    [answer] = [message for message in player.sent if "result" in message]
    assert answer["result"]["outcome"]["optionId"] == {"gemini": "cancel", "opencode": "reject"}[agent]


@pytest.mark.parametrize(("leave", "option"), [("allow", "proceed_once"), ("allow_always", "proceed_always")])
async def test_a_yes_is_given_in_the_agents_own_word(play, leave, option):
    _, player = await play("gemini", "tool_allowed", leave=leave)
    [answer] = [message for message in player.sent if "result" in message]
    assert answer["result"] == {"outcome": {"outcome": "selected", "optionId": option}}


async def test_a_no_where_the_agent_knows_none_cancels_the_question():
    player = Player("gemini")
    await player.open()
    ask = {
        "sessionId": "SESSION",
        "toolCall": {"toolCallId": "t"},
        "options": [{"optionId": "y", "kind": "allow_once"}],
    }
    call = {"id": "q", "method": "session/request_permission", "params": ask}
    await player.turn([call, end("end_turn")], leave="deny")
    assert player.sent[-1]["result"] == {"outcome": {"outcome": "cancelled"}}
    assert player.asked.asked[0].options == ("allow", "deny")


async def test_a_change_of_mode_is_not_part_of_the_answer(play):
    events, _ = await play("gemini", "always_allowed", leave="allow_always")
    assert "MODE_UPDATE" not in text_of(events)


@pytest.mark.parametrize("agent", AGENTS)
async def test_a_tool_that_fails_is_an_error(play, agent):
    events, _ = await play(agent, "tool_failed")
    [use], [result] = only(events, ToolUse), only(events, ToolResult)
    assert (result.id, result.is_error) == (use.id, True)
    assert "not found" in result.output


async def test_a_changed_file_is_shown_as_a_diff(play):
    events, _ = await play("gemini", "tool_write")
    [result] = only(events, ToolResult)
    assert result.output == "--- /ws/new.txt\n+++ /ws/new.txt\n@@ -0,0 +1 @@\n+hello"
