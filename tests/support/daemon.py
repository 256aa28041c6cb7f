"""The real daemon as a process of its own: private home, state and temporary directories, any free port.

    with Daemon(tmp_path, backends={"scripted": scripted()}) as daemon:
        answer = await daemon.client.ask("hello")

Whatever happens, nothing that it started is left when the block is.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any, Self

import tomli_w
import trio

from actors import marker as marking
from actors.marker import Found, Instance, find
from actors.sweep import Sweep
from tests.support.client import Client

ROOT = Path(__file__).parents[2]
AGENT = ROOT / "tests" / "support" / "scripted_agent.py"
PYTHON = str(Path(sys.base_prefix, "bin", "python3"))
SCRIPTED = [PYTHON, "-S", "-E", str(AGENT)]
SERVE = [sys.executable, "-m", "clinvoker", "serve"]
BUILT_IN = ("claude", "codex", "gemini", "echo")


def scripted(*flags: str, **settings: Any) -> dict[str, Any]:
    """The settings of a backend that is the scripted agent; it keeps no process that nobody uses."""
    return {
        "protocol": "acp",
        "command": [*SCRIPTED, *flags],
        "spares": 0,
        "max_idle": 0,
        "start_timeout_secs": 3,
        **settings,
    }


class Daemon:
    """A running daemon. `server` are keys of its `[server]` table."""

    def __init__(
        self,
        home: Path,
        *,
        backends: dict[str, dict[str, Any]] | None = None,
        argv: Sequence[str] = SERVE,
        env: dict[str, str] | None = None,
        stderr: int | IO[bytes] | None = None,
        state: Path | None = None,
        wait: bool = True,
        **server: Any,
    ):
        self.home = home
        self.notes = home / "notes"
        self.stderr = home / "stderr.log"
        self.config = home / "config.toml"
        self.state = state or home / "state"
        for directory in (home, self.notes, home / "tmp"):
            directory.mkdir(exist_ok=True)
        self.baseline: Any = None
        """What the oracle compares with."""
        self._argv, self._env, self._stderr = argv, env or {}, stderr
        self.document = self._document(backends or {}, server)
        self.write_config()
        self.start()
        if wait:
            self.wait_listening()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # Its life.

    def start(self) -> None:
        """Start it, for the first time or again; its log goes on in the same file."""
        self._from = self.stderr.stat().st_size if self.stderr.exists() else 0
        inherited = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
        env = {**inherited, "HOME": str(self.home), "TMPDIR": str(self.home / "tmp"), **self._env}
        self.began = time.monotonic()
        with self.stderr.open("ab") as log:
            self.process = subprocess.Popen(
                [*self._argv, "--config", str(self.config)],
                env=env,
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log if self._stderr is None else self._stderr,
                start_new_session=True,
            )
        self.pid = self.process.pid
        stat = marking._stat(self.pid)
        assert stat is not None
        self.instance = Instance(marking._boot(), marking._namespace(), self.pid, stat.ticks)

    def wait_listening(self, within: float = 15.0) -> Self:
        """Wait until it listens."""
        wait_until(lambda: self.logged("listening") or self.process.poll() is not None, within)
        listening = self.logged("listening")
        assert listening, f"it ended with {self.process.returncode}: {self.log}"
        self.listens_on(int(listening[-1]["urls"][0].rpartition(":")[2]))
        return self

    def listens_on(self, port: int) -> None:
        """Where it can be asked."""
        self.seconds_to_start = time.monotonic() - self.began
        self.client = Client(port)

    def signal(self, signum: int) -> None:
        self.process.send_signal(signum)

    def ended(self, within: float = 15.0) -> int:
        """Wait for its end and return its exit code, negative for a signal."""
        return self.process.wait(within)

    def stop(self, within: float = 15.0) -> int:
        """SIGTERM, and its exit code."""
        self.signal(signal.SIGTERM)
        return self.ended(within)

    async def wait_ended(self, within: float = 15.0) -> int:
        """Wait for its end while others run; return its exit code."""
        await become_true(lambda: self.process.poll() is not None, within)
        return self.process.returncode

    def close(self) -> None:
        """Kill it and all it started."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        for pause in Sweep(lambda found: found.marker.startswith(self.instance.prefix)):
            time.sleep(pause)
        for child in self.noted_children():
            os.kill(child, signal.SIGKILL)

    # What it is told.

    def write_config(self) -> None:
        self.config.write_text(tomli_w.dumps(self.document))

    def _document(self, backends: dict[str, dict[str, Any]], server: dict[str, Any]) -> dict[str, Any]:
        for backend in backends.values():
            backend.setdefault("env", {})["SCRIPT_NOTES"] = str(self.notes)
        off = {name: {"enabled": False} for name in BUILT_IN if name not in backends}
        default = next(iter(backends), "echo")
        if not backends:
            del off["echo"]
        return {
            "default_backend": default,
            "state_dir": str(self.state),
            "server": {"port": 0, **server},
            "backends": {**off, **backends},
        }

    # What can be seen of it.

    @property
    def log(self) -> str:
        """What it wrote to standard error since it was started last."""
        return self.stderr.read_bytes()[self._from :].decode(errors="replace")

    def logged(self, event: str) -> list[dict[str, Any]]:
        """The lines of its log with this event."""
        lines = [line for line in self.log.splitlines() if event in line and line.startswith("{")]
        return [
            fields for line in lines if line.endswith("}") and (fields := json.loads(line))["event"] == event
        ]

    def fds(self) -> int:
        return len(os.listdir(f"/proc/{self.pid}/fd"))  # noqa: PTH208 - names, not paths

    def rss(self) -> int:
        """Resident memory in bytes."""
        return int(Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def marked(self) -> list[Found]:
        """All live processes that carry its marker."""
        return find(lambda found: found.marker.startswith(self.instance.prefix))

    def agents(self) -> list[Found]:
        """The agents: its own children with a marker."""
        return [found for found in self.marked() if found.ppid == self.pid]

    def strays(self) -> list[Found]:
        """What its agents have started, and what has outlived one."""
        return [found for found in self.marked() if found.ppid != self.pid]

    def zombies(self) -> list[int]:
        return [pid for pid in self.children() if (stat := marking._stat(pid)) and stat.state == b"Z"]

    def children(self) -> list[int]:
        tasks = Path(f"/proc/{self.pid}/task").glob("*/children")
        return [int(pid) for children in tasks for pid in children.read_text().split()]

    def guardians(self) -> list[int]:
        return [pid for pid in self.children() if "guardian_main" in _command(pid)]

    def noted_children(self) -> list[int]:
        """Grandchildren, by their own notes, that live, though they carry no marker."""
        pids = [int(note.name.removeprefix("child-")) for note in self.notes.glob("child-*")]
        return [pid for pid in pids if "sleep 1000" in _command(pid)]

    def nothing_left(self) -> bool:
        return not self.marked() and not self.noted_children()


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


def wait_until(condition: Callable[[], object], within: float) -> None:
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < within, "it did not come to pass"
        time.sleep(0.01)


async def become_true(condition: Callable[[], object], within: float) -> None:
    began = trio.current_time()
    while not condition():
        assert trio.current_time() - began < within, "it did not come to pass"
        await trio.sleep(0.01)
