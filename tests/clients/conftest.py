"""A daemon with the real agents, and what each client saw of it."""

import json
import subprocess
import sys
from dataclasses import dataclass

import pytest

from tests.daemon import support
from tests.daemon.support import backends, warm
from tests.support.clients import CLIENTS, ensure_environment, ensure_node
from tests.support.environments import base

KEY = "sesame-clients-key"
AGENTS = ("claude", "codex", "gemini")

model = support.model


@dataclass(frozen=True)
class Client:
    """A script of `scripts/`, and where it runs: `node`, an environment's name, or empty for the tests' own."""

    script: str
    environment: str = ""
    surface: str = ""


@pytest.fixture(scope="session")
def daemon(model, tmp_path_factory):
    """A daemon with the real agents; they try nothing again, so that a failure is told at once."""
    home = tmp_path_factory.mktemp("clients")
    agents = backends(model.url, home / "homes", *AGENTS)
    agents["claude"]["env"]["CLAUDE_CODE_MAX_RETRIES"] = "0"
    flags = agents["codex"]["extra_flags"]
    agents["codex"]["extra_flags"] = [flag.replace("max_retries=2", "max_retries=0") for flag in flags]
    # LangChain's suite wants calls, and brings the results of few.
    with warm(home, agents, 30, env={"CLINVK_API_KEY": KEY}, client_tool_grace_secs=2) as running:
        yield running


@pytest.fixture(scope="session")
def url(daemon):
    return f"http://127.0.0.1:{daemon.client.port}"


@pytest.fixture(scope="session")
def environment(tmp_path_factory):
    """The variables of a client: a home of its own, and nobody's keys; litellm would fetch prices when it is imported."""
    return base(tmp_path_factory.mktemp("home")) | {"LITELLM_LOCAL_MODEL_COST_MAP": "True"}


@pytest.fixture(scope="session")
def played(url, environment):
    """What a client saw when it played the scenario; it plays once."""
    seen = {}

    def play(name, client):
        if name not in seen:
            given = {
                "url": url,
                "key": KEY,
                "mark": name,
                "surface": client.surface,
                "agents": AGENTS,
                "chatting": ["claude", "codex"],
                "failing": "codex",
            }
            command = [*_program(client), str(CLIENTS / "scripts" / client.script), json.dumps(given)]
            done = subprocess.run(
                command, env=environment, capture_output=True, text=True, check=False, timeout=100
            )
            assert done.returncode == 0, done.stdout + done.stderr
            seen[name] = json.loads(done.stdout.splitlines()[-1])
        return seen[name]

    return play


def _program(client):
    if client.environment == "node":
        ensure_node()
        return ["node"]
    if client.environment:
        return [str(ensure_environment(client.environment) / "python")]
    return [sys.executable]
