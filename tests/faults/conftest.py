"""One daemon a module, as its `BACKENDS` and `SERVER` say; every test of it is watched by the five."""

import copy
import signal

import pytest

from tests.support.daemon import Daemon, scripted
from tests.support.oracle import the_five

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell starts what it puts in the background so, and the daemons would inherit it.
    signal.signal(signal.SIGINT, signal.default_int_handler)

SERVER = {
    "first_event_timeout_secs": 5,
    "idle_event_timeout_secs": 5,
    "request_timeout_secs": 30,
    "kill_grace_secs": 1,
    "reattach_grace_secs": 0.2,
    "shutdown_grace_secs": 5,
}


@pytest.fixture(scope="module")
def running(request, tmp_path_factory):
    """The module's daemon."""
    backends = {"scripted": scripted(spares=1), **copy.deepcopy(getattr(request.module, "BACKENDS", {}))}
    server = SERVER | getattr(request.module, "SERVER", {})
    with Daemon(tmp_path_factory.mktemp("daemon"), backends=backends, **server) as daemon:
        yield daemon
        assert daemon.stop() == 0
        assert daemon.nothing_left()


@pytest.fixture
async def daemon(running):
    """The module's daemon, and the five after the test."""
    async with the_five(running):
        yield running


@pytest.fixture
def start(tmp_path):
    """Start daemons that are gone after the test."""
    daemons = []

    def start(**options):
        backends = options.pop("backends", {"scripted": scripted(spares=1)})
        options = {**SERVER, **options}
        daemons.append(Daemon(tmp_path / str(len(daemons)), backends=backends, **options))
        return daemons[-1]

    yield start
    for daemon in daemons:
        daemon.close()
