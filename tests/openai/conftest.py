"""The official SDK against a real daemon: echo and the scripted agent, and claude over the fake model."""

from pathlib import Path
from types import SimpleNamespace

import openai
import pytest

from tests.daemon import support
from tests.daemon.support import backends, warm
from tests.support.client import Client
from tests.support.daemon import PYTHON, Daemon, scripted

RIGHT = '{"n": 7}'
ANSWERS = {"right": [RIGHT], "fenced": [rf"```json\n{RIGHT}\n```"], "second": ["seven", RIGHT]}

model = support.model


def sdk(daemon, **settings):
    """The SDK as its users make it."""
    base_url = f"http://127.0.0.1:{daemon.client.port}/openai/v1"
    return openai.OpenAI(base_url=base_url, **{"api_key": "any", "max_retries": 0, "timeout": 20, **settings})


@pytest.fixture(scope="session")
def plain(tmp_path_factory):
    """A daemon with agents that need no model."""
    home = tmp_path_factory.mktemp("openai")
    agents = {"echo": {}, "scripted": scripted(max_idle=4, models=["script-*", "exact"])}
    with Daemon(home, backends=agents) as daemon:
        yield daemon


@pytest.fixture(scope="session")
def real(model, tmp_path_factory):
    """A daemon with claude."""
    home = tmp_path_factory.mktemp("real")
    with warm(home, backends(model.url, home / "homes", "claude")) as daemon:
        yield daemon


@pytest.fixture
def scene(plain):
    """The daemon, the SDK, and a client for what the SDK hides."""
    client = plain.client = Client(plain.client.port)
    with sdk(plain) as made:
        yield SimpleNamespace(daemon=plain, client=client, sdk=made, chat=made.chat.completions.create)


@pytest.fixture
def claude(real, model):
    """The same over claude, and the model's log."""
    client = real.client = Client(real.client.port)
    with sdk(real) as made:
        yield SimpleNamespace(
            daemon=real, client=client, sdk=made, chat=made.chat.completions.create, model=model
        )


@pytest.fixture(scope="session")
def hasty(tmp_path_factory):
    """A daemon that stands neither silence nor long messages."""
    home = tmp_path_factory.mktemp("hasty")
    limits = {"heartbeat_secs": 0.1, "max_request_body_bytes": 4096}
    with Daemon(home, backends={"scripted": scripted(max_idle=4)}, **limits) as daemon:
        yield daemon


@pytest.fixture
def quiet(hasty):
    """The SDK on it."""
    client = hasty.client = Client(hasty.client.port)
    with sdk(hasty) as made:
        yield SimpleNamespace(daemon=hasty, client=client, chat=made.chat.completions.create)


@pytest.fixture(scope="session")
def fixed(tmp_path_factory):
    """A daemon with agents whose answers are fixed."""
    program = [PYTHON, "-S", "-E", str(Path(__file__).with_name("fixed_agent.py"))]
    agents = {
        name: {"protocol": "acp", "command": [*program, *answers], "spares": 0}
        for name, answers in ANSWERS.items()
    }
    with Daemon(tmp_path_factory.mktemp("fixed"), backends=agents) as daemon:
        yield daemon


@pytest.fixture
def answering(fixed):
    """The SDK on it."""
    with sdk(fixed) as made:
        yield SimpleNamespace(sdk=made, chat=made.chat.completions.create)


@pytest.fixture
def keyed(tmp_path):
    """A daemon with two keys."""
    keys = {"CLINVK_API_KEYS": "right,other"}
    with Daemon(tmp_path, backends={"scripted": scripted(max_idle=4)}, env=keys) as daemon:
        yield SimpleNamespace(client=daemon.client)
