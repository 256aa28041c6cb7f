"""How codex is started, introduced to, and given conversations."""

import os
from typing import Any

import pytest

from actors.driver import ProtocolBroken
from actors.errors import Code, Refusal
from actors.messages import (
    Options,
    Prompt,
)
from actors.outbox import Outbox
from clinvoker.backends.codex import CodexDriver
from clinvoker.config.settings import BackendSettings
from tests.backends.codex_script import Script
from tests.backends.harness import Asked, no_tools


async def test_nobody_logged_in_is_known_before_the_first_turn():
    with pytest.raises(Refusal) as refused:
        await Script([], signed_in=False).link.handshake()
    assert refused.value.code == Code.NOT_LOGGED_IN
    script = Script([], refuse="initialize")
    with pytest.raises(ProtocolBroken):
        await script.link.handshake()


async def test_an_unknown_conversation_is_not_found():
    with pytest.raises(Refusal) as refused:
        await Script([], refuse="thread/resume").link.open(Options(workdir="/ws"), "T")
    assert refused.value.code == Code.NOT_FOUND
    with pytest.raises(Refusal):
        await Script([]).link.turn("T", Prompt("hi"), Outbox(), Asked(), no_tools)


async def test_a_closed_thread_is_let_go_of_for_other_processes():
    for ephemeral in (False, True):
        script = Script([])
        conversation = await script.link.open(Options(workdir="/ws", ephemeral=ephemeral), None)
        await script.link.close(conversation)
        await script.link.close(conversation)
        kept = [] if ephemeral else ["thread/archive", "thread/unarchive"]
        assert script.methods()[1:] == ["thread/unsubscribe", *kept]


def driver(**settings: Any) -> CodexDriver:
    settings = {"command": ("codex",), **settings}
    return CodexDriver("codex", BackendSettings(protocol="codex", **settings), {"PATH": os.environ["PATH"]})


async def test_options_become_parameters_of_the_thread():
    script = Script([])
    options = Options(
        workdir="/ws",
        model="gpt-x",
        system_prompt="be brief",
        approval_mode="auto",
        sandbox_mode="workspace",
        extra=("-c=model_reasoning_effort=high", "--config=model_verbosity='low'"),
        ephemeral=True,
    )
    await script.link.open(options, None)
    assert script.sent[-1]["params"] == {
        "cwd": "/ws",
        "model": "gpt-x",
        "developerInstructions": "be brief",
        "approvalPolicy": "on-request",
        "sandbox": "workspace-write",
        "config": {"model_reasoning_effort": "high", "model_verbosity": "low"},
        "ephemeral": True,
    }


@pytest.mark.parametrize(
    "setting", ["sandbox_mode=full", "model_reasoning_effort", "model_verbosity=a b", ""]
)
async def test_a_request_may_not_configure_what_the_agent_may_do(setting):
    script = Script([])
    await script.link.open(Options(workdir="/ws", extra=(f"-c={setting}",)), None)  # which `check` refuses
    assert "config" not in script.sent[-1]["params"]


def test_threads_of_all_options_share_a_process():
    assert driver().shared
    assert driver().fixed_at_spawn(Options(model="m", extra=("-c=model_verbosity=low",)), None) == ()
    allowed = Options(extra=("--search",))
    assert driver().fixed_at_spawn(allowed, None) == ("--search",)
    assert driver().launch(allowed, "/s", None).argv[-1] == "--search"


def test_the_shim_of_npm_is_passed_by(tmp_path):
    package = tmp_path / "lib/node_modules/@openai/codex"
    native = package / "node_modules/@openai/codex-linux-x64/vendor/x86_64-unknown-linux-musl/bin/codex"
    shim, link = package / "bin/codex.js", tmp_path / "bin/codex"
    for file in (native, shim):
        file.parent.mkdir(parents=True)
        file.write_text("")
        file.chmod(0o755)
    link.parent.mkdir()
    link.symlink_to(shim)
    env = {"PATH": str(link.parent)}
    assert driver(env=env).launch(Options(), "/s", None).argv[:2] == (str(native), "app-server")
    native.unlink()
    assert driver(env=env).launch(Options(), "/s", None).argv[0] == "codex"
    assert driver(env=env, command=("nice", "codex")).launch(Options(), "/s", None).argv[:2] == (
        "nice",
        "codex",
    )
