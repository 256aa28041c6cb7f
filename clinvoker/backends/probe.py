"""Is an agent installed, and which version? Asked of the program itself, and remembered until the file changes."""

import os
import re
import shutil
import subprocess
from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from tempfile import TemporaryDirectory

import trio

from actors.driver import Driver
from actors.launch import Launch
from actors.messages import Options
from clinvoker.backends.choice import Backend

TIMEOUT = 10.0
"""Seconds that an agent gets to print its version: some start a whole runtime for it."""

_VERSION = re.compile(r"\d+\.\d+(?:\.\d+)?[\w.+-]*")


class Versions:
    """The versions of the installed agents."""

    def __init__(self) -> None:
        self._known: dict[tuple[tuple[str, ...], float], str | None] = {}
        self._asking: defaultdict[str, trio.Lock] = defaultdict(trio.Lock)

    async def of(self, backend: Backend) -> str | None:
        """Ask the agent for its version; None if it is not installed, or does not say."""
        driver = backend.driver
        launch = would_launch(driver, Options())
        path = shutil.which(driver.program, path=launch.env.get("PATH"))
        if path is None or not driver.version_argv:
            return None
        argv = (path, *driver.version_argv[1:])
        key = (argv, os.stat(path).st_mtime)  # noqa: PTH116 - a path string is what `which` gives
        async with self._asking[driver.name]:
            if key not in self._known:
                self._known[key] = await _ask(argv, launch.env)
        return self._known[key]


def is_installed(driver: Driver) -> bool:
    """Whether the agent's program is there, on its own PATH."""
    return shutil.which(driver.program, path=would_launch(driver, Options()).env.get("PATH")) is not None


def would_launch(driver: Driver, options: Options) -> Launch:
    """How a process would be started: its scratch directory is gone again, and nothing else was touched."""
    with TemporaryDirectory(prefix="clinvoker-") as scratch:
        return driver.launch(options, scratch, None)


async def _ask(argv: Sequence[str], env: dict[str, str]) -> str | None:
    text = ""
    with trio.move_on_after(TIMEOUT), TemporaryDirectory(prefix="clinvoker-") as scratch, suppress(OSError):
        done = await trio.run_process(
            argv,
            env={**env, "TMPDIR": scratch},
            capture_stdout=True,
            stderr=subprocess.DEVNULL,
            check=False,
            cwd="/",
        )
        text = done.stdout.decode(errors="replace")
    match = _VERSION.search(text)
    return match[0] if match else None
