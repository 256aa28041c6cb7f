"""Codex itself as a client: it is told to ask the daemon, lets an agent answer, and runs its own tools for it."""

import json
import subprocess

import pytest

from tests.support import environments
from tests.support.clis import ensure_installed
from tests.tools.support import KEY, PREFIXES

pytestmark = [pytest.mark.real, pytest.mark.daemon]

EXEC = ("exec", "--json", "--skip-git-repo-check", "-s", "danger-full-access")


@pytest.fixture
def codex(daemon, tmp_path):
    """Run Codex once; returns its last words."""
    setup = environments.codex(f"http://127.0.0.1:{daemon.client.port}/openai", tmp_path / "home")

    def run(prompt, *flags):
        done = subprocess.run(
            [*ensure_installed().codex, *setup.flags, *EXEC, *flags, "-"],
            input=prompt,
            env={**setup.env, "FAKE_KEY": KEY},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        items = [json.loads(line).get("item", {}) for line in done.stdout.splitlines()]
        return [item["text"] for item in items if item.get("type") == "agent_message"][-1]

    return run


def test_its_own_tools_are_called_by_the_agent_and_run_by_itself(codex, model):
    given = json.dumps({"cmd": "echo from-$((40 + 2))"})
    prompt = f"[[tool:{PREFIXES['claude']}exec_command {given}]] for codex"
    assert "from-42" in codex(prompt, "-m", "claude")
    assert [one["kind"] for one in model.of("for codex")] == ["turn", "tool_result"]


def test_code_that_calls_its_tools_is_run_by_itself_where_its_model_is_one_that_writes_such(codex, model):
    code = json.dumps({"input": "text(await tools.exec_command({cmd: 'echo from-$((40 + 2))'}))"})
    assert "from-42" in codex(f"[[tool:{PREFIXES['codex']}exec {code}]] in code")
    assert [one["kind"] for one in model.of("in code")] == ["turn", "tool_result"]
