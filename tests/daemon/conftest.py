"""The daemon as a user has it, with the real agents, against the fake model."""

from types import SimpleNamespace

import pytest

from tests.daemon import support
from tests.daemon.support import ALL, backends, warm
from tests.support.client import Client

model = support.model


def pytest_collection_modifyitems(items):
    """All of these need the real CLIs and start daemons."""
    for item in items:
        if "/tests/daemon/" in str(item.path):
            item.add_marker(pytest.mark.real)
            item.add_marker(pytest.mark.daemon)


@pytest.fixture(scope="session")
def everything(model, tmp_path_factory):
    """One daemon with every agent."""
    home = tmp_path_factory.mktemp("everything")
    with warm(home, backends(model.url, home / "homes", *ALL)) as daemon:
        yield daemon


@pytest.fixture
def scene(everything, model, tmp_path):
    """The daemon, a client of its own, the model, and an empty working directory."""
    client = everything.client = Client(everything.client.port)
    return SimpleNamespace(daemon=everything, client=client, model=model, workdir=tmp_path)
