"""What recorded ACP agents (gemini 0.61.0, opencode 1.18.33) said, and the events that are made of it."""

import json
import time

import pytest
import trio
import trio.testing
from msgspec import UNSET
from msgspec.structs import replace

from actors.driver import LinkClosed, ProtocolBroken
from actors.errors import Code, Refusal
from actors.messages import (
    Complete,
    Failed,
    Image,
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
from actors.process import Launch
from clinvoker.backends.acp import AcpDriver
from clinvoker.backends.acp_link import GUARD
from clinvoker.config.settings import BackendSettings
from tests.backends.acp_player import Player
from tests.backends.harness import Asked, no_tools, only, text_of

AGENTS = ["gemini", "opencode"]
GEMINI_START = Start("auto", "/ws")
OPENCODE_START = Start("fake/fake-model", "/ws")


@pytest.fixture
def play(monkeypatch):
    """Play one recorded turn of an agent from its start."""

    async def play(agent, name, leave="allow"):
        player = Player(agent, monkeypatch)
        await player.open()
        events = await player.turn(name, leave=leave)
        assert player.link.unparsed == 0
        return events, player

    return play


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
    events = await player.turn([*map(_chunk, words), _end("end_turn")])
    assert text_of(events) == "one two one\none"


async def test_repeated_words_without_a_pause_are_the_models_own(monkeypatch):
    player = Player("gemini", monkeypatch)
    await player.open()
    events = await player.turn([*map(_chunk, ["ha", "ha", "ha"]), _end("end_turn")])
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
    assert (await player.turn([_end(reason)]))[-1] == ending


async def test_the_cost_of_a_turn_is_what_the_session_grew_by():
    player = Player("opencode")
    await player.open()
    cost = {"sessionUpdate": "usage_update", "cost": {"amount": 0.25, "currency": "USD"}}
    first = await player.turn([_update(cost), _end("end_turn")])
    second = await player.turn(
        [_update({**cost, "cost": {"amount": 0.4, "currency": "USD"}}), _end("end_turn")]
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
    await player.turn([call, _end("end_turn")], leave="deny")
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


# Failures.


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
    player.say(_chunk("late"))
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
    events = await player.turn([_update({"sessionUpdate": "plan", "entries": []}), _end("end_turn")])
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
    player.say({**_end("cancelled"), "id": player.of("session/prompt")[0]["id"]})
    await ended.wait()
    events = await player.turn([_chunk("again"), _end("end_turn")])
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
    player.say({**_end("cancelled"), "id": player.of("session/prompt")[0]["id"]})


async def test_an_interrupt_with_nothing_in_hand_says_nothing():
    player = Player("gemini")
    await player.open()
    await player.turn([_end("end_turn")])
    await player.link.interrupt("SESSION")
    assert not player.of("session/cancel")


async def test_a_question_that_makes_no_sense_is_counted_and_answered_once():
    player = Player("gemini")
    await player.open()
    await player.turn(
        [{"id": 9, "method": "session/request_permission", "params": {"x": "\ud83d"}}, _end("end_turn")]
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
    lines = [json.dumps(_chunk(f" w{number}")).encode() for number in range(50_000)]
    out = Outbox()

    async def stream():
        await player.prompt_sent.wait()
        began = time.process_time()
        for line in lines:
            player.link.feed(line)
        player.spent = time.process_time() - began
        player.say({**_end("end_turn"), "id": player.of("session/prompt")[0]["id"]})

    async with trio.open_nursery() as nursery:
        nursery.start_soon(stream)
        await player.link.turn("SESSION", Prompt("hi"), out, Asked(), no_tools)
    assert len(await out.take()) == 50_002
    assert player.spent < 0.3  # 0.1 s on a quiet machine


# Opening.


async def test_a_model_is_set_in_the_agents_own_way():
    for agent, method, params in [
        ("gemini", "session/set_model", {"modelId": "m"}),
        ("opencode", "session/set_config_option", {"configId": "model", "value": "m"}),
    ]:
        player = Player(agent)
        await player.open(Options(workdir="/ws", model="m"))
        assert player.of(method)[0]["params"] == {"sessionId": "SESSION", **params}
        assert (await player.turn([_end("end_turn")]))[0] == Start("m", "/ws")


async def test_the_configured_model_is_set_where_none_is_asked_for():
    player = Player("gemini", model="configured")
    await player.open()
    assert player.of("session/set_model")[0]["params"]["modelId"] == "configured"


async def test_a_model_that_cannot_be_chosen_is_refused_by_name():
    player = Player("gemini")
    player.answers["session/new"] = {"result": {"sessionId": "SESSION"}}
    with pytest.raises(Refusal) as refused:
        await player.open(Options(workdir="/ws", model="m"))
    assert (refused.value.code, refused.value.param) == (Code.UNSUPPORTED, "model")


async def test_an_unknown_model_is_refused_and_the_session_closed():
    player = Player("opencode")
    error = {"code": -32602, "message": "Invalid params: model not found: m"}
    player.answers["session/set_config_option"] = {"error": error}
    with pytest.raises(Refusal) as refused:
        await player.open(Options(workdir="/ws", model="m"))
    assert (refused.value.code, refused.value.param) == (Code.MODEL_NOT_FOUND, "model")
    assert player.of("session/close")


async def test_the_history_of_a_loaded_session_is_no_answer():
    player = Player("gemini")
    history = iter([line for line in player.lines("load") if "method" in line])

    def reply(request, original=player.reply):
        # The agent answers session/load at once and goes on telling the history, a line each time we look.
        original(request)
        if (line := next(history, None)) is not None:
            player.say(line)

    player.reply = reply
    await player.open(resume="SESSION")
    assert next(history, None) is None
    assert not player.of("session/new")
    events = await player.turn([_chunk("fresh"), _end("end_turn")])
    assert text_of(events) == "fresh"


async def test_a_session_is_resumed_without_its_history_where_that_is_offered():
    player = Player("opencode")
    assert await player.open(resume="ses_1") == "ses_1"
    assert player.of("session/resume")[0]["params"] == {"sessionId": "ses_1", "cwd": "/ws", "mcpServers": []}


async def test_a_session_that_is_not_there_is_not_found():
    player = Player("gemini")
    details = {"details": "Invalid session identifier"}
    player.answers["session/load"] = {"error": {"code": -32603, "message": "Internal error", "data": details}}
    with pytest.raises(Refusal, match="Invalid session identifier") as refused:
        await player.open(resume="gone")
    assert refused.value.code == Code.NOT_FOUND


async def test_an_agent_that_resumes_nothing_says_not_found():
    player = Player("gemini")
    player.answers["initialize"] = {"result": {"protocolVersion": 1}}
    with pytest.raises(Refusal) as refused:
        await player.open(resume="s")
    assert refused.value.code == Code.NOT_FOUND


async def test_a_missing_login_is_told_when_a_session_is_opened():
    player = Player("gemini")
    player.answers["session/new"] = {"error": {"code": -32000, "message": "Authentication required"}}
    with pytest.raises(Refusal) as refused:
        await player.open()
    assert refused.value.code == Code.NOT_LOGGED_IN


async def test_another_version_of_the_protocol_is_refused():
    player = Player("gemini")
    player.answers["initialize"] = {"result": {"protocolVersion": 2}}
    with pytest.raises(ProtocolBroken, match="version 2"):
        await player.open()


async def test_a_session_is_closed_where_that_is_offered():
    for agent, closed in [("gemini", 0), ("opencode", 1)]:
        player = Player(agent)
        await player.link.close(await player.open())
        assert len(player.of("session/close")) == closed


# Prompts.


@pytest.mark.parametrize("prompt", ["/memory show", "  /init", "\n$x", "\ufeff/x", "/"])
async def test_a_prompt_is_never_a_command(prompt):
    player = Player("gemini")
    await player.open()
    await player.turn([_end("end_turn")], prompt)
    [block] = player.of("session/prompt")[0]["params"]["prompt"]
    assert block == {"type": "text", "text": GUARD + prompt}


@pytest.mark.parametrize("prompt", ["hi", "-x", "a/b", "@file", "", "\u2028x"])
async def test_any_other_prompt_is_sent_as_it_is(prompt):
    player = Player("gemini")
    await player.open()
    await player.turn([_end("end_turn")], prompt)
    assert player.of("session/prompt")[0]["params"]["prompt"] == [{"type": "text", "text": prompt}]


async def test_images_go_beside_the_text_where_the_agent_takes_them():
    image = Image("image/png", "aGk=")
    player = Player("gemini")
    await player.open()
    await player.turn([_end("end_turn")], Prompt("see", (image,)))
    blocks = player.of("session/prompt")[0]["params"]["prompt"]
    assert blocks[1] == {"type": "image", "mimeType": "image/png", "data": "aGk="}
    player = Player("gemini")
    player.answers["initialize"] = {"result": {"protocolVersion": 1}}
    await player.open()
    with pytest.raises(Refusal) as refused:
        await player.link.turn("SESSION", Prompt("see", (image,)), Outbox(), Asked(), no_tools)
    assert (refused.value.code, refused.value.param) == (Code.UNSUPPORTED, "images")


@pytest.mark.parametrize(("commands", "guard"), [([], ""), ([{"name": "init"}], GUARD), (None, GUARD)])
async def test_where_the_agent_says_that_it_has_no_commands_a_prompt_is_as_it_is(commands, guard):
    player = Player("gemini")
    await player.open()
    player.say(_update({"sessionUpdate": "available_commands_update", "availableCommands": commands}))
    await player.turn([_end("end_turn")], "/init")
    assert player.of("session/prompt")[0]["params"]["prompt"][0]["text"] == guard + "/init"
    if not guard:
        player.say(_update({"sessionUpdate": "available_commands_update", "availableCommands": [{}]}))
        await player.turn([_end("end_turn")], "/init")
        assert player.of("session/prompt")[1]["params"]["prompt"][0]["text"] == GUARD + "/init"


# The driver.


def _driver(**settings):
    settings = {"protocol": "acp", "command": ("agent", "--acp"), **settings}
    return AcpDriver("mine", BackendSettings(**settings), {"PATH": "/bin", "SECRET": "x"})


def test_a_driver_launches_what_is_configured_and_nothing_else(tmp_path):
    driver = _driver(extra_flags=("--fast",), env={"A": "b"})
    launch = driver.launch(Options(extra=("--more",)), str(tmp_path), None)
    assert launch.argv == ("agent", "--acp", "--fast", "--more")
    assert launch.cwd == str(tmp_path)
    assert (launch.env["A"], "SECRET" in launch.env) == ("b", False)
    assert (driver.name, driver.program, driver.shared) == ("mine", "agent", True)
    assert driver.version_argv == ("agent", "--acp", "--version")


async def test_a_live_agent_corrects_what_its_driver_says_that_it_can():
    driver = _driver()
    player = Player("gemini")
    player.link = driver.link(player.send, Launch((), {}, ""))
    optimistic = driver.capabilities
    assert (optimistic.images, optimistic.resume, optimistic.model) == (True, True, True)
    player.answers["initialize"] = {"result": {"protocolVersion": 1}}
    player.answers["session/new"] = {"result": {"sessionId": "SESSION"}}
    await player.link.handshake()
    assert driver.capabilities == replace(optimistic, images=False, resume=False, client_tools=False)
    await player.open()
    assert driver.capabilities == replace(
        optimistic, images=False, resume=False, client_tools=False, model=False
    )
    player.answers.clear()
    await player.open()
    assert driver.capabilities == optimistic


async def test_a_configured_model_is_the_users_word_that_it_can_be_chosen():
    driver = _driver(model="m")
    player = Player("gemini")
    player.link = driver.link(player.send, Launch((), {}, ""))
    player.answers["session/new"] = {"result": {"sessionId": "SESSION"}}
    with pytest.raises(Refusal):
        await player.open()
    assert driver.capabilities.model


def test_a_system_prompt_goes_by_a_file_where_a_variable_is_configured(tmp_path):
    driver = _driver(system_prompt_env="AGENT_MD", system_prompt="default")
    for options, expected in [(Options(), "default"), (Options(system_prompt="be brief"), "be brief")]:
        launch = driver.launch(options, str(tmp_path), None)
        with open(launch.env["AGENT_MD"], encoding="utf-8") as file:  # noqa: PTH123
            assert file.read() == expected
    assert driver.capabilities.system_prompt
    assert driver.fixed_at_spawn(Options(), None) == driver.fixed_at_spawn(
        Options(system_prompt="default"), None
    )
    assert driver.fixed_at_spawn(Options(), None) != driver.fixed_at_spawn(Options(system_prompt="x"), None)


def test_a_system_prompt_without_a_variable_is_refused_by_name(tmp_path):
    driver = _driver()
    assert not driver.capabilities.system_prompt
    with pytest.raises(Refusal) as refused:
        driver.launch(Options(system_prompt="x"), str(tmp_path), None)
    assert (refused.value.code, refused.value.param) == (Code.UNSUPPORTED, "system_prompt")


def _update(update):
    return {
        "jsonrpc": "2.0",
        "method": "session/update",
        "params": {"sessionId": "SESSION", "update": update},
    }


def _chunk(text):
    if isinstance(text, dict):
        return text
    return _update({"sessionUpdate": "agent_message_chunk", "content": {"type": "text", "text": text}})


def _end(reason):
    return {"jsonrpc": "2.0", "id": "PROMPT", "result": {"stopReason": reason}}
