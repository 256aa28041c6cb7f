"""The official SDKs with tools of their own, against a daemon with all the real agents over the fake model."""

import anthropic
import openai
import pytest

from tests.daemon import support
from tests.daemon.support import backends, warm
from tests.tools.support import AGENTS, KEY

model = support.model


@pytest.fixture(scope="session")
def running(model, tmp_path_factory):
    """A daemon with two keys; what waits for a client waits as long as by default."""
    home = tmp_path_factory.mktemp("tools")
    agents = backends(model.url, home / "homes", *AGENTS, "echo")
    with warm(home, agents, 30, env={"CLINVK_API_KEYS": f"{KEY},other"}) as daemon:
        yield daemon


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
