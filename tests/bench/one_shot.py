"""A CLI started cold for one prompt, in its own one-shot mode: what everyone does without a daemon (clis.md, section 3).

Measured from before the spawn: the first answer text on its standard output, its exit, and the CPU of the process and
the children it waited for (`wait4`). codex tells no deltas in this mode: its first text is its whole text.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support import environments
from tests.support.clis import ensure_installed


@dataclass(frozen=True, slots=True)
class Cost:
    """What one prompt took, in seconds."""

    first: float
    total: float
    cpu: float


@dataclass(frozen=True, slots=True)
class OneShot:
    """How to start a CLI for one prompt, which it reads from its standard input."""

    name: str
    argv: list[str]
    env: dict[str, str]
    cwd: Path

    def run(self, prompt: str) -> Cost:
        """Run it once, and check its answer."""
        began = time.perf_counter()
        first = 0.0
        text = ""
        with subprocess.Popen(
            self.argv,
            env=self.env,
            cwd=self.cwd,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        ) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(prompt.encode())
            process.stdin.close()
            for line in process.stdout:
                piece = _text(self.name, json.loads(line))
                if piece and not text:
                    first = time.perf_counter() - began
                text += piece
            _, status, used = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
        total = time.perf_counter() - began
        assert process.returncode == 0, f"{self.name} ended with {process.returncode}"
        assert text == f"echo: {prompt}", text
        return Cost(first, total, used.ru_utime + used.ru_stime)


def one_shot(name: str, model_url: str, home: Path) -> OneShot:
    """The CLI in its one-shot mode, with the flags and the environment it has under the daemon."""
    clis = ensure_installed()
    setup = getattr(environments, name)(model_url, home)
    cwd = home / "work"
    cwd.mkdir(parents=True, exist_ok=True)
    words = {
        "claude": [
            *clis.claude,
            *("-p", "--output-format", "stream-json", "--verbose", "--include-partial-messages"),
        ],
        "codex": [*clis.codex, *setup.flags, "exec", "--json", "--skip-git-repo-check", "-"],
        "gemini": [*clis.gemini, *setup.flags, "-o", "stream-json"],
    }
    return OneShot(name, words[name], setup.env, cwd)


def _text(name: str, line: dict[str, Any]) -> str:
    """The answer text in one line of output; nothing if it is another kind of line."""
    match name, line:
        case "claude", {
            "type": "stream_event",
            "event": {"delta": {"type": "text_delta", "text": str(text)}},
        }:
            return text
        case "codex", {"type": "item.completed", "item": {"type": "agent_message", "text": str(text)}}:
            return text
        case "gemini", {"type": "message", "role": "assistant", "content": str(text)}:
            return text
        case _:
            return ""
