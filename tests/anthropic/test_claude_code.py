"""Claude Code itself, told by ANTHROPIC_BASE_URL to ask the daemon, which lets codex answer."""

import json
import subprocess

import pytest

from tests.anthropic.conftest import KEY
from tests.support import environments
from tests.support.clis import ensure_installed

pytestmark = [pytest.mark.real, pytest.mark.daemon]


@pytest.fixture
def claude_code(agents, tmp_path):
    """One prompt to Claude Code, and what it prints of the answer."""
    setup = environments.claude(f"http://127.0.0.1:{agents.client.port}/anthropic", tmp_path / "home")

    def asking(prompt, *flags, model="claude-via-codex"):
        argv = [*ensure_installed().claude, "-p", prompt, "--model", model, "--output-format", "json", *flags]
        done = subprocess.run(
            argv,
            env={**setup.env, "ANTHROPIC_API_KEY": KEY},
            cwd=tmp_path,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            timeout=60,
        )
        return json.loads(done.stdout)

    return asking


def test_it_is_answered_and_its_conversation_goes_on_with_the_same_agent(claude_code, model):
    first = claude_code("first of two [[say:hello over codex]]", "--tools", "")
    assert (first["is_error"], first["result"]) == (False, "hello over codex")
    again = claude_code("second of two [[history]]", "--tools", "", "--resume", first["session_id"])
    # Codex was told the second message alone: the first is in its own memory.
    told = again["result"].split(" | ")
    assert [text.startswith(start) for text, start in zip(told, ("first", "second"), strict=True)] == [
        True,
        True,
    ]
    assert len(model.of("of two")) == 2


def test_its_own_tools_are_called_by_the_agent_and_run_by_itself(claude_code, model):
    bash = {"command": "echo from-$((40 + 2))", "description": "d"}
    answer = claude_code(f"[[tool:client_Bash {json.dumps(bash)}]] with tools", "--allowedTools", "Bash")
    assert (answer["is_error"], answer["result"]) == (False, "tool-result: from-42")
    assert [one["kind"] for one in model.of("with tools")] == ["turn", "tool_result"]


def test_a_model_that_is_nobodys_is_an_error_that_it_shows(claude_code):
    answer = claude_code("hi", "--tools", "", model="nobody")
    assert answer["is_error"]
    assert answer["api_error_status"] == 404


@pytest.mark.parametrize("mark", ["[[errtype:context]]", "[[err:400]]", "[[mid:cutalways]] said"])
def test_a_turn_that_fails_is_executed_once(claude_code, agents, mark):
    before = len(agents.logged("run ended"))
    assert claude_code(f"{mark} for claude code", "--tools", "")["is_error"]
    assert len(agents.logged("run ended")) == before + 1


def test_a_context_that_is_too_long_is_known_by_its_words(claude_code):
    answer = claude_code("[[errtype:context]] in words", "--tools", "")
    assert answer["result"].startswith("Prompt is too long")
