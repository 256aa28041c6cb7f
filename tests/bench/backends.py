"""The backends under measurement, as a configuration file would have them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from tests.support import configuration

CLIS = ("claude", "codex", "gemini")
PROTOCOL = {"claude": "claude", "codex": "codex", "gemini": "acp", "echo": "acp"}
ONE_PROCESS_EACH = frozenset({"claude"})
"""Agents whose process holds one conversation: a new session takes a spare, which is replaced."""


def real(name: str, model_url: str, home: Path) -> dict[str, Any]:
    """A real CLI on the fake model, in a home of its own."""
    settings: dict[str, Any] = configuration.document(model_url, home, name)["backends"][name]
    return {"protocol": PROTOCOL[name], **settings}


def echo(delay_ms: int = 0, **settings: Any) -> dict[str, Any]:
    """Our own agent, which waits before every word."""
    command = [sys.executable, "-m", "clinvoker.backends.echo"]
    return {
        "protocol": "acp",
        "command": [*command, "--delay-ms", str(delay_ms)] if delay_ms else command,
        **settings,
    }
