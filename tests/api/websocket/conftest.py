"""One daemon for the tests of the websocket, which need more agents at once than the others."""

import pytest

from tests.api.websocket.support import GRACE
from tests.support.daemon import PYTHON, ROOT, Daemon, scripted


@pytest.fixture(scope="session")
def running(tmp_path_factory):
    """The daemon of these tests, which must log no error of its own."""
    backends = {
        "scripted": scripted(max_processes=24, max_spawning=8, max_idle=4),
        "asking": {**scripted(), "command": [PYTHON, "-S", "-E", str(ROOT / "tests/api/asking_agent.py")]},
        "echo": {},
    }
    home = tmp_path_factory.mktemp("ws")
    with Daemon(home, backends=backends, reattach_grace_secs=GRACE, write_stall_secs=5) as daemon:
        yield daemon
        assert not [line for line in daemon.log.splitlines() if '"level":"error"' in line.replace(" ", "")]
