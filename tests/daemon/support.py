"""The fake model as a process of its own, and what the agents call their tools."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support import configuration
from tests.support.daemon import ROOT, Daemon, become_true, wait_until

REAL = ("claude", "codex", "gemini", "opencode")
ALL = (*REAL, "echo")


class Model:
    """A running fake model; its log is read from a file, for it outlives the event loop of any test."""

    def __init__(self, directory: Path):
        self._log = directory / "model.jsonl"
        self._log.touch()
        self._read = 0
        self._found: dict[int, dict[str, Any]] = {}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.fake_model", "--log", str(self._log)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        self.url = self.process.stdout.readline().strip()

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()

    def requests(self) -> list[dict[str, Any]]:
        """All calls so far, each with the latest that is known of it."""
        with self._log.open("rb") as log:
            log.seek(self._read)
            for line in log:
                if line.endswith(b"\n"):  # or it is still being written
                    self._read += len(line)
                    request = json.loads(line)
                    self._found.setdefault(request["number"], {}).update(request)
        return [dict(request) for request in self._found.values()]

    def of(self, mark: str) -> list[dict[str, Any]]:
        """The calls for the prompt that holds `mark`, the agent's own errands left out."""
        return [one for one in self.requests() if mark in one["text"] and one["kind"] != "side"]

    async def status(self, mark: str, status: str, within: float = 3.0) -> None:
        """Wait until the last call for a prompt has this status."""
        await become_true(lambda: [one["status"] for one in self.of(mark)][-1:] == [status], within)


def backends(model_url: str, home: Path, *names: str) -> dict[str, Any]:
    """The settings of these backends, in a fresh home each."""
    document = configuration.document(model_url, home, *names)
    return {name: document["backends"].get(name, {}) for name in names}


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Model]:
    """The model server that the real agents talk to; a directory that names this fixture has one of its own."""
    running = Model(tmp_path_factory.mktemp("model"))
    yield running
    running.close()


@contextmanager
def warm(home: Path, agents: dict[str, Any], within: float = 20.0, **options: Any) -> Iterator[Daemon]:
    """A daemon with these agents, each of which has started: no test waits for that, or measures it."""
    with Daemon(home / "daemon", backends=agents, **options) as daemon:
        wait_until(lambda: len(daemon.agents()) >= len(agents), within)
        yield daemon


def shell(backend: str, command: str) -> str:
    """Have the model call the agent's own shell."""
    match backend:
        case "claude":
            name, arguments = "Bash", {"command": command, "description": "d"}
        case "codex":
            name, arguments = "exec_command", {"cmd": command, "yield_time_ms": 30_000}
        case "gemini":
            name, arguments = "run_shell_command", {"command": command}
        case _:
            name, arguments = "bash", {"command": command, "description": "d"}
    return f"[[tool:{name} {json.dumps(arguments)}]]"


FREE = {
    "claude": {"approval_mode": "auto"},
    "codex": {"approval_mode": "none", "sandbox_mode": "full"},
    "gemini": {"approval_mode": "auto"},
    "opencode": {"approval_mode": "auto"},
}
"""How a tool runs without anybody being asked."""


def sleepers(daemon: Daemon, seconds: int) -> list[int]:
    """The processes of the daemon's that sleep for exactly so long."""
    marked = []
    for found in daemon.marked():
        try:
            command = Path(f"/proc/{found.pid}/cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if command[0].endswith(b"sleep") and command[1:2] == [b"%d" % seconds]:
            marked.append(found.pid)
    return marked
