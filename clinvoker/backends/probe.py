"""Is an agent installed, and which version? Asked of the program itself, and remembered until the file changes."""

import os
import re
import shutil
import subprocess
from collections import defaultdict
from tempfile import TemporaryDirectory

import trio
from msgspec import Struct

from actors.driver import Driver
from actors.launch import Launch
from actors.messages import Options
from clinvoker.backends.choice import Backend

TIMEOUT = 10.0
"""Seconds that an agent gets to print its version: some start a whole runtime for it."""

_VERSION = re.compile(r"\d+\.\d+(?:\.\d+)?[\w.+-]*")


class Version(Struct, frozen=True):
    """What was found: `text` is None where the program does not say."""

    found: bool
    text: str | None = None


class Versions:
    """The versions of the installed agents."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, float], Version] = {}
        self._asking: defaultdict[str, trio.Lock] = defaultdict(trio.Lock)

    async def of(self, backend: Backend) -> Version:
        """Look the agent up on its own PATH and ask it for its version."""
        driver = backend.driver
        launch = would_launch(driver, Options())
        path = shutil.which(driver.program, path=launch.env.get("PATH"))
        if path is None:
            return Version(found=False)
        if not driver.version_argv:
            return Version(found=True)
        key = (path, os.stat(path).st_mtime)  # noqa: PTH116 - a path string is what `which` gives
        async with self._asking[driver.name]:
            if key not in self._known:
                self._known[key] = await _ask([path, *driver.version_argv[1:]], launch.env)
        return self._known[key]


def would_launch(driver: Driver, options: Options) -> Launch:
    """How a process would be started: its scratch directory is gone again, and nothing else was touched."""
    with TemporaryDirectory(prefix="clinvoker-") as scratch:
        return driver.launch(options, scratch, None)


async def _ask(argv: list[str], env: dict[str, str]) -> Version:
    text = ""
    with trio.move_on_after(TIMEOUT), TemporaryDirectory(prefix="clinvoker-") as scratch:
        try:
            done = await trio.run_process(
                argv,
                env={**env, "TMPDIR": scratch},
                capture_stdout=True,
                stderr=subprocess.DEVNULL,
                check=False,
                cwd="/",
            )
            text = done.stdout.decode(errors="replace")
        except OSError:
            return Version(found=True)
    match = _VERSION.search(text)
    return Version(found=True, text=match[0] if match else None)
