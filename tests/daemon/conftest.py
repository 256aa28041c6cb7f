"""The daemon as a user has it, with the real agents, against the fake model."""

from types import SimpleNamespace

import pytest

from tests.daemon.support import ALL, Model, backends
from tests.support.client import Client
from tests.support.daemon import Daemon, wait_until


def pytest_collection_modifyitems(items):
    """All of these need the real CLIs and start daemons."""
    for item in items:
        if "/tests/daemon/" in str(item.path):
            item.add_marker(pytest.mark.real)
            item.add_marker(pytest.mark.daemon)


@pytest.fixture(scope="session")
def model(tmp_path_factory):
    """The model server that all agents talk to."""
    running = Model(tmp_path_factory.mktemp("model"))
    yield running
    running.close()


@pytest.fixture(scope="session")
def everything(model, tmp_path_factory):
    """One daemon with every agent."""
    home = tmp_path_factory.mktemp("everything")
    settings = backends(model.url, home / "homes", *ALL)
    with Daemon(home / "daemon", backends=settings) as daemon:
        # Warm before the first test, or the agents' own start would be measured.
        wait_until(lambda: len(daemon.agents()) >= len(ALL), 20)
        yield daemon


@pytest.fixture
def scene(everything, model, tmp_path):
    """The daemon, a client of its own, the model, and an empty working directory."""
    client = everything.client = Client(everything.client.port)
    return SimpleNamespace(daemon=everything, client=client, model=model, workdir=tmp_path)
