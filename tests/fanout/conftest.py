"""One daemon for all that needs no daemon of its own: echo, and a scripted agent that can write files."""

import copy
from types import SimpleNamespace

import pytest

from tests.daemon import support
from tests.fanout.support import WRITING
from tests.support.daemon import Daemon, scripted

BACKENDS = {
    "echo": {"spares": 1},
    "writing": scripted(spares=1, max_idle=4) | {"command": WRITING},
    "absent": scripted() | {"command": ["/nowhere/agent"]},
}
SERVER = {"reattach_grace_secs": 0.3, "kill_grace_secs": 1, "shutdown_grace_secs": 5}

model = support.model


def pytest_collection_modifyitems(items):
    """All but a few of these start daemons."""
    for item in items:
        if "/tests/fanout/" in str(item.path):
            item.add_marker(pytest.mark.daemon)


@pytest.fixture(scope="module")
def running(request, tmp_path_factory):
    """The module's daemon."""
    server = {**SERVER, **getattr(request.module, "SERVER", {})}
    with Daemon(tmp_path_factory.mktemp("fanout"), backends=copy.deepcopy(BACKENDS), **server) as daemon:
        yield daemon
        if daemon.process.poll() is None:
            assert daemon.stop() == 0
            assert daemon.nothing_left()


@pytest.fixture
def scene(daemon, tmp_path):
    """The daemon, its client, and a directory of the test's own."""
    return SimpleNamespace(daemon=daemon, client=daemon.client, path=tmp_path)
