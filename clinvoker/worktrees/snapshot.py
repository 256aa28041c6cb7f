"""A checkout as it is now: the commit it is at, what is staged, and every file that git would not ignore.

It is taken with a copy of the index, so that the checkout stays as it is to the byte; its content goes into the
repository's objects, where git forgets it in time.
"""

import os
import shutil
import tempfile
from pathlib import Path, PurePath

import trio
from msgspec import Struct

from actors.errors import Code, Refusal
from clinvoker.worktrees.git import Git, GitError

_LINK = b"160000 "
"""How the mode of a submodule begins a line of `git ls-files --stage`."""


class Snapshot(Struct, frozen=True):
    """A checkout at one moment. All paths are absolute."""

    top: str
    """The root of the checkout."""
    within: str
    """The directory that was asked for, relative to `top`."""
    common: str
    """The repository's own directory, which all its worktrees share."""
    head: str
    """The commit that is checked out."""
    staged: str
    """The tree that is staged."""
    tree: str
    """The tree of all files as they are."""


async def take(git: Git, workdir: str, root: Path) -> Snapshot:
    """Take a snapshot of the checkout around `workdir`, a real path; `root` is a directory for the copied index.

    Raises `Refusal` naming `workdir` if that is in no checkout that can be had a second time.
    """
    if "\n" in workdir:
        raise _no(f"{workdir!r} cannot be isolated: there is a line break in its name")
    try:
        answer = await git(
            workdir,
            *("rev-parse", "--path-format=absolute"),
            *("--show-toplevel", "--git-common-dir", "--git-path", "index", "HEAD^{commit}"),
        )
    except GitError as error:
        raise _no(await _fault(git, workdir, error)) from None
    top, common, index, head = answer.splitlines()
    try:
        staged, tree = await _trees(git, top, index, head, root)
    except GitError as error:
        raise _no(f"the checkout of {workdir} cannot be copied: {error}") from None
    return Snapshot(top, PurePath(workdir).relative_to(top).as_posix(), common, head, staged, tree)


async def _fault(git: Git, workdir: str, error: GitError) -> str:
    """Why there is no checkout to be had."""
    try:
        bare, inside = (
            await git(workdir, "rev-parse", "--is-bare-repository", "--is-inside-work-tree")
        ).splitlines()
    except GitError as worse:
        return f"{workdir} is not in a git repository that can be used: {worse}"
    if bare == "true":
        return f"{workdir} is in a bare repository: it has no files to work on"
    if inside != "true":
        return f"{workdir} is inside of a repository's own directory, not of a checkout"
    try:
        await git(workdir, "rev-parse", "--verify", "--quiet", "HEAD^{commit}")
    except GitError:
        return f"the repository of {workdir} has no commit yet to start from"
    return f"the checkout of {workdir} cannot be copied: {error}"


async def _trees(git: Git, top: str, index: str, head: str, root: Path) -> tuple[str, str]:
    """The trees of what is staged and of what is there, by a copy of the index."""
    copy = await trio.to_thread.run_sync(_copy, index, root)
    try:
        env = {"GIT_INDEX_FILE": copy}
        try:
            staged = await git(top, "write-tree", env=env)
        except GitError:  # unmerged: what is staged is no tree
            staged = head
        await git(top, "add", "--all", env=env)
        files = (await git.run(top, "ls-files", "--stage", env=env)).output
        if files.startswith(_LINK) or b"\n" + _LINK in files:
            raise _no(f"the checkout in {top} has submodules, which a worktree cannot share")
        return staged, await git(top, "write-tree", env=env)
    finally:
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(_drop, copy)


def _copy(index: str, root: Path) -> str:
    """A copy of the index with its times, by which git knows which files it has to look at again."""
    descriptor, copy = tempfile.mkstemp(prefix="index-", dir=root)
    os.close(descriptor)
    if Path(index).exists():
        shutil.copy2(index, copy)
    else:
        Path(copy).unlink()
    return copy


def _drop(copy: str) -> None:
    for name in (copy, f"{copy}.lock"):
        Path(name).unlink(missing_ok=True)


def _no(message: str) -> Refusal:
    return Refusal(Code.INVALID_REQUEST, message, param="workdir")
