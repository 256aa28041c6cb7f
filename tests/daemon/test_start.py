"""How soon the daemon is there, and how little it needs."""

import time

import pytest
import trio

from tests.daemon.support import ALL, backends
from tests.support.client import Client
from tests.support.daemon import Daemon, become_true

READY = 0.6
IDLE = 70 * 1000 * 1000


@pytest.mark.parametrize("names", [("echo",), ALL], ids=["echo alone", "all agents"])
async def test_the_daemon_answers_health_soon_and_idles_small(model, tmp_path, names):
    settings = backends(model.url, tmp_path / "homes", *names)
    took = []
    for attempt in range(3):  # the best of three: other tests may share the processors
        with Daemon(tmp_path / f"daemon-{attempt}", backends=settings, wait=False) as daemon:
            with trio.fail_after(10):
                while not daemon.logged("listening"):
                    assert daemon.process.poll() is None, daemon.log
                    await trio.sleep(0.002)
            port = int(daemon.logged("listening")[-1]["urls"][0].rpartition(":")[2])
            assert (await Client(port).get("/health")).status == 200
            took.append(time.monotonic() - daemon.began)
            if took[-1] < READY:
                break
    assert min(took) < READY, took
    with Daemon(tmp_path / "idle", backends=settings) as daemon:
        await become_true(lambda: len(daemon.agents()) >= len(names), 20)
        await trio.sleep(0.5)
        assert daemon.rss() < IDLE
