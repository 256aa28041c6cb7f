"""On what, with what and when it was measured: without this a time says nothing."""

from __future__ import annotations

import json
import os
import platform
from datetime import UTC, datetime
from pathlib import Path

from tests.support.clis import ROOT

_PACKAGES = {
    "claude": "@anthropic-ai/claude-code",
    "codex": "@openai/codex",
    "gemini": "@google/gemini-cli",
}


def describe() -> str:
    """The machine in one line of Markdown."""
    parts = (
        f"{len(os.sched_getaffinity(0))} cores of {_field('/proc/cpuinfo', 'model name')}",
        f"{int(_field('/proc/meminfo', 'MemTotal').split()[0]) / 2**20:.0f} GiB",
        f"{platform.system()} {platform.release()}",
        f"Python {platform.python_version()}",
        *(f"{name} {_version(package)}" for name, package in _PACKAGES.items()),
        f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
    )
    return ", ".join(parts)


def load() -> str:
    """The load averages of the last 1, 5 and 15 minutes; far above what the benchmarks make themselves, it is noise."""
    return " ".join(f"{average:.2f}" for average in os.getloadavg())


def _field(file: str, name: str) -> str:
    for line in Path(file).read_text().splitlines():
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return "0 unknown"


def _version(package: str) -> str:
    found: str = json.loads((ROOT / "node_modules" / package / "package.json").read_text())["version"]
    return found
