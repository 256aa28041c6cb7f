"""The real agent CLIs at the versions the tests were written against, installed by npm when they are not there.

`python -m tests.support.clis` installs them and prints where they are.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from tests.support import npm

ROOT = Path(__file__).resolve().parent.parent / "clis"
_MODULES = ROOT / "node_modules"


@dataclass(frozen=True, slots=True)
class Clis:
    """What to execute, absolute: native binaries where they exist, for signals must reach the real process."""

    claude: tuple[str, ...]
    codex: tuple[str, ...]
    gemini: tuple[str, ...]
    opencode: tuple[str, ...]

    @property
    def bin(self) -> str:
        """The directory of links under the programs' own names, as a user has it on PATH."""
        return str(_MODULES / ".bin")


def ensure_installed() -> Clis:
    """Install what differs from package.json; a few milliseconds when nothing does."""
    npm.ensure_installed(ROOT)
    return Clis(*_programs())


def _programs() -> tuple[tuple[str, ...], ...]:
    """Argument vectors in the order of Clis. The platform package of codex holds its one binary."""
    codex = sorted(_MODULES.glob("@openai/codex-*/vendor/*/bin/codex"))
    return (
        (str(_MODULES / "@anthropic-ai/claude-code/bin/claude.exe"),),
        (str(codex[0]) if codex else str(_MODULES / "codex-is-missing"),),
        (shutil.which("node") or "node", str(_MODULES / "@google/gemini-cli/bundle/gemini.js")),
        (str(_MODULES / "opencode-ai/bin/opencode.exe"),),
    )


if __name__ == "__main__":
    print(ensure_installed())  # noqa: T201
