"""The official SDK against a real daemon: echo and the scripted agent, and claude over the fake model."""

from types import SimpleNamespace

import openai
import pytest

from tests.daemon.support import Model, backends
from tests.support.client import Client
from tests.support.daemon import Daemon, scripted, wait_until


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
def model(tmp_path_factory):
    """The model behind the real agents."""
    running = Model(tmp_path_factory.mktemp("model"))
    yield running
    running.close()


@pytest.fixture(scope="session")
def real(model, tmp_path_factory):
    """A daemon with claude."""
    home = tmp_path_factory.mktemp("real")
    with Daemon(home / "daemon", backends=backends(model.url, home / "homes", "claude")) as daemon:
        wait_until(lambda: len(daemon.agents()) >= 1, 20)
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
