"""The official SDK of Anthropic, unmodified, against a running daemon."""

import anthropic
import pytest

from tests.api.conftest import ABSENT
from tests.daemon import support
from tests.daemon.support import backends, warm
from tests.support.daemon import Daemon, scripted

KEY = "sesame-anthropic-key"
AGENTS = ("claude", "codex")
BACKENDS = {
    "echo": {},
    "scripted": scripted(),
    "kept": scripted(max_idle=4),
    "claude": {"command": ["/absent/claude"], **ABSENT},
    "codex": {"command": ["/absent/codex"], **ABSENT},
}

model = support.model


@pytest.fixture(scope="session")
def running(tmp_path_factory):
    """The daemon of these tests: a key, and pings as often as they may come."""
    home = tmp_path_factory.mktemp("anthropic")
    env = {"CLINVK_API_KEY": KEY}
    with Daemon(home, backends=BACKENDS, env=env, heartbeat_secs=0.2, reattach_grace_secs=0.2) as daemon:
        yield daemon


@pytest.fixture
def base(daemon):
    """The base URL that a user gives the SDK."""
    return f"http://127.0.0.1:{daemon.client.port}/anthropic"


@pytest.fixture
def sdk(base):
    """The SDK as a user makes it; nothing is tried again."""
    with anthropic.Anthropic(base_url=base, api_key=KEY, max_retries=0) as client:
        yield client


@pytest.fixture
def ask(sdk):
    """One message, whole."""

    def asking(content, model="echo", **fields):
        messages = content if isinstance(content, list) else [{"role": "user", "content": content}]
        return sdk.messages.create(model=model, max_tokens=256, messages=messages, **fields)

    return asking


@pytest.fixture(scope="session")
def agents(model, tmp_path_factory):
    """A daemon with the real agents."""
    home = tmp_path_factory.mktemp("real")
    settings = backends(model.url, home / "homes", *AGENTS)
    with warm(home, settings, env={"CLINVK_API_KEY": KEY}) as daemon:
        yield daemon
