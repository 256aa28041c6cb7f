"""The SDKs' own helpers for Node, which run a client's tools until the answer is there."""

import json
import subprocess

import pytest

from tests.clients.conftest import KEY
from tests.support.clients import CLIENTS, ensure_node
from tests.tools.support import one_call

pytestmark = [pytest.mark.real, pytest.mark.daemon]


@pytest.mark.parametrize("agent", ["claude", "codex"])
def test_they_call_the_tool_and_have_its_result_used(url, environment, agent):
    ensure_node()
    given = {"url": url, "key": KEY, "model": agent, "prompt": one_call(agent)}
    command = ["node", str(CLIENTS / "scripts" / "run_tools.mjs"), json.dumps(given)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    answers = json.loads(done.stdout)
    assert len(answers) == 4
    assert all(answer.startswith("tool-result:") and "5" in answer for answer in answers), answers
