"""One daemon a module, as its `SERVER` and `BACKENDS` say: echo, and the scripted agent."""

import copy
import os

import pytest

from tests.sessions.support import BACKENDS
from tests.support.daemon import Daemon

SERVER = {"reattach_grace_secs": 0.5, "kill_grace_secs": 1, "shutdown_grace_secs": 5}


def pytest_collection_modifyitems(items):
    """All but a few of these start daemons."""
    for item in items:
        if "/tests/sessions/" in str(item.path):
            item.add_marker(pytest.mark.daemon)


@pytest.fixture(scope="module")
def running(request, tmp_path_factory):
    """The module's daemon."""
    module = request.module
    backends = copy.deepcopy(getattr(module, "BACKENDS", BACKENDS))
    server = {**SERVER, **getattr(module, "SERVER", {})}
    env = getattr(module, "ENV", {})
    home = tmp_path_factory.mktemp("sessions")
    with Daemon(home, backends=backends, env=env, **server) as daemon:
        yield daemon
        if daemon.process.poll() is None:
            assert daemon.stop() == 0
            assert daemon.nothing_left()


@pytest.fixture
def kills():
    """How often a daemon is killed where that is done many times: CLINVOKER_KILLS says otherwise."""
    return int(os.environ.get("CLINVOKER_KILLS", "50"))
