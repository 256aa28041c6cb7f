"""Git, as a process like any other: marked, limited in time, gone when it should be.

It runs with the user's own configuration, but starts nothing of the repository's: no hooks, no file system monitor, no
diff drivers; and it takes no optional locks, so that looking at a checkout leaves no trace in it.
"""

import shutil
from collections.abc import Callable, Mapping

from actors.errors import Code, Refusal
from actors.process import Launch, LaunchError
from clinvoker.worktrees.command import Finished, run

LIMIT = 120.0
"""Seconds that one command may take."""

MOST = 64 * 1024 * 1024
"""Bytes of output that are read where it is not asked for less."""

FIXED = (
    *("-c", "core.hooksPath=/dev/null"),
    *("-c", "core.fsmonitor=false"),
    *("-c", "gc.auto=0"),
    *("-c", "maintenance.auto=false"),
    *("-c", "advice.addEmbeddedRepo=false"),
)

WITHOUT_LFS = tuple(
    word
    for setting in ("clean=", "smudge=", "process=", "required=false")
    for word in ("-c", f"filter.lfs.{setting}")
)
"""Where git-lfs is not installed, a checkout holds its pointers, and so does a worktree."""

OURS = {
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_EDITOR": "true",
    "GIT_AUTHOR_NAME": "clinvoker",
    "GIT_AUTHOR_EMAIL": "clinvoker@localhost",
    "GIT_COMMITTER_NAME": "clinvoker",
    "GIT_COMMITTER_EMAIL": "clinvoker@localhost",
    "LC_ALL": "C",
}


class GitError(Exception):
    """Git said no; the message is what it said, in one line."""


class Git:
    """Runs git. `environ` is the whole environment of it and of what checks run with."""

    def __init__(self, environ: Mapping[str, str], marker: Callable[[], str], grace: float) -> None:
        self.environ = {name: value for name, value in environ.items() if not name.startswith("GIT_")}
        self.marker = marker
        self.grace = grace
        has_lfs = shutil.which("git-lfs", path=environ.get("PATH")) is not None
        self._fixed = FIXED if has_lfs else FIXED + WITHOUT_LFS

    async def __call__(self, where: str, *arguments: str, env: Mapping[str, str] | None = None) -> str:
        """Run git in a directory; return what it printed, without the last newline.

        Raises `GitError` if it fails, `Refusal` if it cannot be run or takes too long.
        """
        output = (await self.run(where, *arguments, env=env)).output
        return output.decode("utf-8", "surrogateescape").removesuffix("\n")

    async def run(
        self, where: str, *arguments: str, env: Mapping[str, str] | None = None, most: int = MOST
    ) -> Finished:
        """Run git in a directory; return all of it. Raises as above."""
        launch = Launch(("git", *self._fixed, *arguments), {**self.environ, **OURS, **(env or {})}, where)
        try:
            finished = await run(launch, self.marker(), grace=self.grace, limit_s=LIMIT, most=most)
        except LaunchError as error:
            raise Refusal(Code.UNSUPPORTED, f"worktrees need git: {error.message}", param="isolate") from None
        if finished.exit_code is None:
            raise Refusal(Code.TIMEOUT, f"git {arguments[0]} took longer than {LIMIT:g} s")
        if finished.exit_code:
            told = finished.errors.decode("utf-8", "replace").strip().splitlines()
            raise GitError(told[-1] if told else f"git {arguments[0]} ended with {finished.exit_code}")
        return finished
