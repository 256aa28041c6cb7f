"""How the ACP driver launches its agent, and what it says that the agent can."""

import pytest
from msgspec.structs import replace

from actors.errors import Code, Refusal
from actors.messages import Options
from actors.process import Launch
from clinvoker.backends.acp import AcpDriver
from clinvoker.config.settings import BackendSettings
from tests.backends.acp_player import Player


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
