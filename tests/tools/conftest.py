"""The official SDKs with tools of their own, against a daemon with all the real agents over the fake model."""

import anthropic
import openai
import pytest

from tests.daemon.support import Model, backends
from tests.support.client import Client
from tests.support.daemon import Daemon, wait_until
from tests.tools.support import AGENTS, KEY


@pytest.fixture(scope="session")
def model(tmp_path_factory):
    """The model behind the agents."""
    running = Model(tmp_path_factory.mktemp("model"))
    yield running
    running.close()


@pytest.fixture(scope="session")
def running(model, tmp_path_factory):
    """A daemon with two keys; what waits for a client waits as long as by default."""
    home = tmp_path_factory.mktemp("tools")
    settings = {**backends(model.url, home / "homes", *AGENTS), "echo": {}}
    keys = {"CLINVK_API_KEYS": f"{KEY},other"}
    with Daemon(home / "daemon", backends=settings, env=keys) as daemon:
        wait_until(lambda: len(daemon.agents()) >= len(AGENTS), 30)
        yield daemon


@pytest.fixture
def daemon(running):
    """The daemon, with a client that has asked nothing yet."""
    running.client = Client(running.client.port)
    return running


@pytest.fixture
def gpt(daemon):
    """OpenAI's SDK as its users make it."""
    base = f"http://127.0.0.1:{daemon.client.port}/openai/v1"
    with openai.OpenAI(base_url=base, api_key=KEY, max_retries=0, timeout=20) as client:
        yield client


@pytest.fixture
def sonnet(daemon):
    """Anthropic's."""
    base = f"http://127.0.0.1:{daemon.client.port}/anthropic"
    with anthropic.Anthropic(base_url=base, api_key=KEY, max_retries=0, timeout=20) as client:
        yield client
