"""How a test gets at the daemon that its directory runs: the directory's `running` is the daemon itself."""

import pytest

from tests.support.client import Client


@pytest.fixture
def daemon(running):
    """The daemon, with a client that has asked nothing yet."""
    running.client = Client(running.client.port)
    return running


@pytest.fixture
def client(daemon):
    """Asks the daemon."""
    return daemon.client
