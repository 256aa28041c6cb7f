"""A configuration file under which the daemon runs the real CLIs against the fake model, each in a home of its own.

`python -m tests.support.configuration FILE MODEL_URL HOME` writes one, to try things by hand.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import tomli_w

from tests.support import environments
from tests.support.clis import ensure_installed

REAL = ("claude", "codex", "gemini", "opencode")


def document(model_url: str, home: Path, *names: str, **server: Any) -> dict[str, Any]:
    """The settings for the named backends (all when none is named); the other built-in ones are off."""
    wanted = names or (*REAL, "echo")
    backends: dict[str, Any] = {
        name: {"enabled": name in wanted} for name in ("claude", "codex", "gemini", "echo")
    }
    for name in REAL:
        if name in wanted:
            backends[name] = _backend(name, model_url, home)
    return {"default_backend": wanted[0], "server": server, "backends": backends}


def write(path: Path, content: dict[str, Any]) -> Path:
    """Write the settings as TOML."""
    path.write_text(tomli_w.dumps(content))
    return path


def _backend(name: str, model_url: str, home: Path) -> dict[str, Any]:
    clis = ensure_installed()
    setup = getattr(environments, name)(model_url, home / name)
    # What the daemon itself sees to is left to it; a program is found as a user has it.
    env = {key: value for key, value in setup.env.items() if key not in {"TMPDIR", "TERM", "NO_COLOR"}}
    match name:
        case "claude":
            return {"command": [*clis.claude], "env": env, "extra_flags": setup.flags}
        case "codex":
            return {"command": [*clis.codex], "env": env, "extra_flags": setup.flags}
        case "gemini":
            return {"command": [*clis.gemini, *setup.flags, "--acp"], "env": env}
        case _:
            return {"protocol": "acp", "command": [*clis.opencode, "acp"], "env": env}


if __name__ == "__main__":
    write(Path(sys.argv[1]), document(sys.argv[2], Path(sys.argv[3])))
