"""Codex itself as a client: it is told to ask the daemon, lets claude answer, and runs its own tools for it."""

import json
import subprocess

import pytest

from tests.support import environments
from tests.support.clis import ensure_installed
from tests.tools.support import KEY, PREFIXES

pytestmark = [pytest.mark.real, pytest.mark.daemon]


def test_its_own_tools_are_called_by_the_agent_and_run_by_itself(daemon, model, tmp_path):
    setup = environments.codex(f"http://127.0.0.1:{daemon.client.port}/openai", tmp_path / "home")
    given = json.dumps({"cmd": "echo from-$((40 + 2))"})
    prompt = f"[[tool:{PREFIXES['claude']}exec_command {given}]] for codex"
    flags = ["exec", "--json", "--skip-git-repo-check", "-s", "danger-full-access", "-m", "claude", "-"]
    done = subprocess.run(
        [*ensure_installed().codex, *setup.flags, *flags],
        input=prompt,
        env={**setup.env, "FAKE_KEY": KEY},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    items = [json.loads(line) for line in done.stdout.splitlines()]
    texts = [item["item"]["text"] for item in items if item.get("item", {}).get("type") == "agent_message"]
    assert texts
    assert "from-42" in texts[-1]
    assert [one["kind"] for one in model.of("for codex")] == ["turn", "tool_result"]
