"""How the claude driver launches its agent."""

import pytest

from actors.errors import Refusal
from actors.messages import Options
from clinvoker.backends.claude import ClaudeDriver
from clinvoker.backends.environment import agent_environment
from clinvoker.config.settings import BackendSettings


def driver(**settings):
    return ClaudeDriver(
        "claude", BackendSettings(protocol="claude", command=("claude",), **settings), {"PATH": "/bin"}
    )


def test_what_only_a_launch_can_set_is_in_the_launch():
    launch = driver().launch(
        Options(
            sandbox_mode="read-only", max_turns=3, max_tokens=99, ephemeral=True, extra=("--effort=low",)
        ),
        "/scratch",
        "an-id",
    )
    assert {
        "--resume=an-id",
        "--tools=Read,Glob,Grep",
        "--max-turns=3",
        "--no-session-persistence",
        "--effort=low",
    } <= set(launch.argv)
    assert launch.env["CLAUDE_CODE_MAX_OUTPUT_TOKENS"] == "99"
    assert launch.cwd == "/scratch"


def test_the_sandbox_that_claude_does_not_have_is_refused():
    with pytest.raises(Refusal) as refusal:
        driver().launch(Options(sandbox_mode="workspace"), "/scratch", None)
    assert refusal.value.param == "sandbox_mode"


def test_the_users_own_environment_has_the_last_word_on_defaults():
    env = driver(env={"CLAUDE_CODE_MAX_RETRIES": "7"}).launch(Options(), "/scratch", None).env
    assert env["CLAUDE_CODE_MAX_RETRIES"] == "7"


def test_an_agent_inherits_what_is_allowed_and_never_what_is_ours():
    environ = {
        "PATH": "/bin",
        "LC_ALL": "C",
        "https_proxy": "p",
        "ANTHROPIC_API_KEY": "k",
        "SECRET": "s",
        "CLINVK_API_KEY": "s",
        "CLINVOKER_RUN_ID": "s",
        "NOTIFY_SOCKET": "s",
        "LISTEN_FDS": "s",
    }
    settings = BackendSettings(
        protocol="claude",
        command=("claude",),
        env={"OWN": "1", "CLINVK_HOST": "s"},
        env_passthrough=("ANTHROPIC_*", "CLINV*"),
    )
    assert agent_environment(settings, environ, "/scratch") == {
        "PATH": "/bin",
        "LC_ALL": "C",
        "https_proxy": "p",
        "ANTHROPIC_API_KEY": "k",
        "OWN": "1",
        "TERM": "dumb",
        "NO_COLOR": "1",
        "TMPDIR": "/scratch/.tmp",
    }
