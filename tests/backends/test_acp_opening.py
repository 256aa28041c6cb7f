"""How a conversation with an ACP agent is opened, and what it is told."""

import pytest

from actors.driver import ProtocolBroken
from actors.errors import Code, Refusal
from actors.messages import Image, Options, Prompt, Start
from actors.outbox import Outbox
from clinvoker.backends.acp_link import GUARD
from tests.backends.acp_player import Player, chunk, end, update
from tests.backends.harness import Asked, no_tools, text_of


async def test_a_model_is_set_in_the_agents_own_way():
    for agent, method, params in [
        ("gemini", "session/set_model", {"modelId": "m"}),
        ("opencode", "session/set_config_option", {"configId": "model", "value": "m"}),
    ]:
        player = Player(agent)
        await player.open(Options(workdir="/ws", model="m"))
        assert player.of(method)[0]["params"] == {"sessionId": "SESSION", **params}
        assert (await player.turn([end("end_turn")]))[0] == Start("m", "/ws")


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
    events = await player.turn([chunk("fresh"), end("end_turn")])
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
    await player.turn([end("end_turn")], prompt)
    [block] = player.of("session/prompt")[0]["params"]["prompt"]
    assert block == {"type": "text", "text": GUARD + prompt}


@pytest.mark.parametrize("prompt", ["hi", "-x", "a/b", "@file", "", "\u2028x"])
async def test_any_other_prompt_is_sent_as_it_is(prompt):
    player = Player("gemini")
    await player.open()
    await player.turn([end("end_turn")], prompt)
    assert player.of("session/prompt")[0]["params"]["prompt"] == [{"type": "text", "text": prompt}]


async def test_images_go_beside_the_text_where_the_agent_takes_them():
    image = Image("image/png", "aGk=")
    player = Player("gemini")
    await player.open()
    await player.turn([end("end_turn")], Prompt("see", (image,)))
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
    player.say(update({"sessionUpdate": "available_commands_update", "availableCommands": commands}))
    await player.turn([end("end_turn")], "/init")
    assert player.of("session/prompt")[0]["params"]["prompt"][0]["text"] == guard + "/init"
    if not guard:
        player.say(update({"sessionUpdate": "available_commands_update", "availableCommands": [{}]}))
        await player.turn([end("end_turn")], "/init")
        assert player.of("session/prompt")[1]["params"]["prompt"][0]["text"] == GUARD + "/init"
