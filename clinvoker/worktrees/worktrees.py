"""All worktrees of this daemon: opened for a task, removed with it, and found again after a crash.

They lie in the state directory, which only one daemon has: what is there when it starts is a dead one's.
"""

from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import trio

from actors.errors import Code, Refusal
from clinvoker.logs import get_logger
from clinvoker.worktrees import leftover, snapshot
from clinvoker.worktrees.git import Git, GitError
from clinvoker.worktrees.snapshot import Snapshot
from clinvoker.worktrees.worktree import Worktree

REMOVAL = 5.0
"""Seconds that removing one may take; what is left then is removed at the next start."""

_log = get_logger("clinvoker.worktrees")


class Worktrees:
    """Opens and removes worktrees under `root`."""

    def __init__(
        self, root: Path, environ: Mapping[str, str], marker: Callable[[], str], grace: float
    ) -> None:
        self._root = root
        self._git = Git(environ, marker, grace)
        self._adding = trio.Lock()
        """Two at once would meet at the repository's own locks."""
        self._left = sorted(root.iterdir()) if root.is_dir() else []

    async def remove_leftovers(self) -> None:
        """Remove what was there when this was made."""
        left, self._left = self._left, []
        for place in left:
            if place.is_dir():
                await leftover.remove(self._git, place)
            else:
                with suppress(OSError):
                    place.unlink()
        if left:
            _log.info("worktrees of a daemon that was killed were removed", count=len(left))

    async def snapshot(self, workdir: str) -> Snapshot:
        """The checkout around a directory as it is now. Raises `Refusal` naming `workdir`."""
        self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
        return await snapshot.take(self._git, workdir, self._root)

    @asynccontextmanager
    async def open(self, taken: Snapshot, name: str) -> AsyncGenerator[Worktree, None]:
        """A worktree with the content of a snapshot, on a branch of its own; gone when the block is left.

        The branch stays if what was changed was kept. Raises `Refusal`.
        """
        place = self._root / name
        tree = place / leftover.TREE
        branch = leftover.PREFIX + name
        worktree = Worktree(self._git, taken, place, tree, branch)
        try:
            leftover.write_note(place, leftover.Note(taken.common, branch))
        except OSError as error:
            raise Refusal(Code.STORAGE, f"no worktree could be made: {error.strerror}") from None
        try:
            try:
                async with self._adding:
                    await self._git(
                        taken.top,
                        *("worktree", "add", "--quiet", "--no-checkout", "--no-track"),
                        *("-b", branch, str(tree), taken.head),
                    )
                await worktree.fill()
            except GitError as error:
                message = f"no worktree could be made: {error}"
                raise Refusal(Code.INVALID_REQUEST, message, param="workdir") from None
            yield worktree
        finally:
            with trio.move_on_after(REMOVAL, shield=True):
                await leftover.remove(self._git, place, keep_branch=worktree.kept)
