"""How a worktree is noted, and removed with nothing but that note: by whoever opened it, or by the next daemon.

    ROOT/NAME/note.json    the repository and the branch
    ROOT/NAME/tree         the worktree
    ROOT/NAME/index        a copy of its index, while its changes are looked at

Only what lies there, and what git's own records (gitrepository-layout(5), `worktrees/*/gitdir`) tie to it, is removed;
a user's own worktrees are not looked at twice.
"""

import os
import shutil
import stat
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import trio
from msgspec import Struct

from actors.errors import Refusal
from clinvoker.logs import get_logger
from clinvoker.worktrees.git import Git, GitError

PREFIX = "clinvoker-"
"""What the names of our branches begin with."""

NOTE = "note.json"
TREE = "tree"

_log = get_logger("clinvoker.worktrees")


class Note(Struct, frozen=True):
    """What has to be known to remove a worktree."""

    common: str
    branch: str


def write_note(place: Path, note: Note) -> None:
    """Note a worktree before it is made."""
    place.mkdir(mode=0o700)
    (place / NOTE).write_bytes(msgspec.json.encode(note))


async def remove(git: Git, place: Path, *, keep_branch: bool = False) -> None:
    """Remove a worktree, its branch, and the note. What cannot be removed is logged, and found at the next start."""
    try:
        note = msgspec.json.decode((place / NOTE).read_bytes(), type=Note)
    except (OSError, msgspec.MsgspecError):
        note = None  # nothing was made yet
    try:
        await trio.to_thread.run_sync(_remove_files, place, note)
        if note is not None and not keep_branch and note.branch.startswith(PREFIX):
            await _delete_branch(git, note)
        await trio.to_thread.run_sync(_remove_tree, place)
    except (OSError, Refusal, GitError) as error:
        _log.warning("a worktree could not be removed", place=str(place), error=str(error))


def _remove_files(place: Path, note: Note | None) -> None:
    tree = place / TREE
    _remove_tree(tree)
    if note is None:
        return
    records = Path(note.common, "worktrees")
    for record in _list(records):
        try:
            tied_to = (record / "gitdir").read_text(errors="surrogateescape").strip()
        except OSError:
            continue
        if tied_to == str(tree / ".git"):
            _remove_tree(record)
    with suppress(OSError):
        records.rmdir()  # as git does when it was the last


async def _delete_branch(git: Git, note: Note) -> None:
    if not await trio.Path(note.common).is_dir():
        return
    ref = f"refs/heads/{note.branch}"
    env = {"GIT_DIR": note.common}
    if await git(note.common, "for-each-ref", "--format=%(refname)", ref, env=env):
        await git(note.common, "update-ref", "-d", ref, env=env)


def _remove_tree(path: Path) -> None:
    def make_writable(_function: Callable[..., Any], name: str, _error: object) -> None:
        # Some tools write-protect what they download.
        parent = Path(name).parent
        parent.chmod(parent.stat().st_mode | stat.S_IRWXU)
        target = Path(name)
        if target.is_dir() and not target.is_symlink():
            target.chmod(target.stat().st_mode | stat.S_IRWXU)
            shutil.rmtree(target)
        else:
            target.unlink(missing_ok=True)

    if path.is_symlink():
        path.unlink()
    elif path.exists():
        shutil.rmtree(path, onerror=make_writable)


def _list(directory: Path) -> list[Path]:
    try:
        return [directory / name for name in os.listdir(directory)]  # noqa: PTH208 - names, not paths
    except OSError:
        return []
