"""One worktree: where an agent works, what it changed there, and whether that passes a check."""

import shutil
from pathlib import Path

import trio
from msgspec import Struct

from actors.errors import Code, Refusal
from actors.process import Launch, LaunchError
from clinvoker.worktrees.command import run_for_tail
from clinvoker.worktrees.git import Git, GitError
from clinvoker.worktrees.snapshot import Snapshot

MOST_DIFF = 4 * 1024 * 1024
"""Bytes of a diff that are told at most."""

MOST_OUTPUT = 16 * 1024
"""Bytes of a check's output that are told: the last ones."""


class Changed(Struct, frozen=True):
    """What was changed since the snapshot: a unified diff that `git apply` takes, and the paths, from the root."""

    diff: str
    files_changed: tuple[str, ...]
    truncated: bool = False
    """Whether there was more than is told: `diff` is then no whole patch."""


class Checked(Struct, frozen=True):
    """How a check ended; `exit_code` is None when its time was up. `output` is the tail of all that it wrote."""

    exit_code: int | None
    output: str
    duration_ms: int
    timed_out: bool = False


class Worktree:
    """A worktree that is open; `workdir` is where the caller's working directory lies in it."""

    def __init__(self, git: Git, snapshot: Snapshot, place: Path, tree: Path, branch: str) -> None:
        self.branch = branch
        self.workdir = str(tree / snapshot.within) if snapshot.within != "." else str(tree)
        self.kept = False
        self._git = git
        self._snapshot = snapshot
        self._place = place
        self._tree = str(tree)
        self._after = snapshot.tree

    async def fill(self) -> None:
        """Bring the files of the snapshot in, with what was staged staged. Raises `GitError`, `Refusal`."""
        await self._git(self._tree, "read-tree", "--reset", "-u", self._snapshot.tree)
        if self._snapshot.staged != self._snapshot.tree:
            await self._git(self._tree, "read-tree", "--reset", self._snapshot.staged)
        # It may have held nothing that git knows of.
        await trio.Path(self.workdir).mkdir(parents=True, exist_ok=True)

    async def change(self, most: int = MOST_DIFF) -> Changed:
        """Tell what was changed, in a diff of `most` bytes. Raises `Refusal`."""
        try:
            return await self._change(min(most, MOST_DIFF))
        except GitError as error:
            message = f"what the task changed cannot be told: {error}"
            raise Refusal(Code.BACKEND_ERROR, message) from None

    async def keep(self) -> None:
        """Commit what was changed, as it was last told, over what the agent has committed itself. Raises `Refusal`."""
        try:
            await self._commit(self._after)
        except GitError as error:
            raise Refusal(Code.BACKEND_ERROR, f"the task's branch cannot be kept: {error}") from None
        self.kept = True

    async def _change(self, most: int) -> Changed:
        git, before = self._git, self._snapshot.tree
        index = self._place / "index"
        own = Path(await git(self._tree, "rev-parse", "--absolute-git-dir"), "index")
        await trio.to_thread.run_sync(shutil.copy2, own, index)
        env = {"GIT_INDEX_FILE": str(index)}
        await git(self._tree, "add", "--all", env=env)
        after = self._after = await git(self._tree, "write-tree", env=env)
        if after == before:
            return Changed("", ())
        between = ("--no-ext-diff", "--no-textconv", "--no-color", before, after)
        names = await git(self._tree, "diff", "--name-only", "-z", "--no-renames", *between)
        diff = await git.run(self._tree, "diff", "--binary", *between, most=most)
        return Changed(
            diff.output.decode("utf-8", "replace"),
            tuple(name.encode("utf-8", "replace").decode() for name in names.split("\0") if name),
            diff.cut,
        )

    async def _commit(self, tree: str) -> None:
        git = self._git
        tip = await git(self._tree, "rev-parse", "--verify", "HEAD^{commit}")
        commit = tip
        if await git(self._tree, "rev-parse", f"{tip}^{{tree}}") != tree:
            commit = await git(self._tree, "commit-tree", tree, "-p", tip, "-m", f"Result of {self.branch}")
        await git(self._tree, "update-ref", f"refs/heads/{self.branch}", commit)

    async def check(self, command: str, limit_s: float) -> Checked:
        """Run a shell command in the working directory. Raises `Refusal` if it cannot be started."""
        # What it writes to either is one text; it has nothing to read.
        argv = ("/bin/sh", "-c", f"exec 2>&1 </dev/null\n{command}")
        began = trio.current_time()
        try:
            finished = await run_for_tail(
                Launch(argv, self._git.environ, self.workdir),
                self._git.marker(),
                grace=self._git.grace,
                limit_s=limit_s,
                most=MOST_OUTPUT,
            )
        except LaunchError as error:
            raise Refusal(Code.BACKEND_ERROR, f"the check could not be started: {error.message}") from None
        return Checked(
            finished.exit_code,
            finished.output.decode("utf-8", "replace"),
            round((trio.current_time() - began) * 1000),
            timed_out=finished.exit_code is None,
        )
