"""One daemon for all tests of the API: echo, the scripted agent, and the others by name only, with nothing behind it."""

import pytest

from tests.support.daemon import Daemon, scripted

ABSENT = {"spares": 0}
BACKENDS = {
    "echo": {},
    "scripted": scripted(),
    "kept": scripted("--version", "7.8.9", max_idle=4),
    "claude": {"command": ["/absent/claude"], **ABSENT},
    "codex": {"command": ["/absent/codex"], **ABSENT},
    "gemini": {"command": ["/absent/gemini", "--acp"], **ABSENT},
    "other": {"command": ["/absent/other"], "protocol": "acp", **ABSENT},
}


@pytest.fixture(scope="session")
def running(tmp_path_factory):
    """The daemon of all these tests."""
    home = tmp_path_factory.mktemp("api")
    outside = home / "outside"
    blocked = home / "blocked"
    for directory in (outside, blocked):
        directory.mkdir()
    with Daemon(
        home,
        backends=BACKENDS,
        blocked_workdir_prefixes=[str(blocked)],
        reattach_grace_secs=0.2,
        max_request_body_bytes=4 << 20,
    ) as daemon:
        yield daemon
