"""Git worktrees for tasks that must not touch the caller's checkout, nor each other's.

worktrees   all of them: opened, removed, and what a crashed daemon left is found
snapshot    a checkout as it is now, uncommitted changes included, without a trace in it
worktree    one worktree: what was changed in it, and a command run in it
leftover    how a worktree is noted and removed, with nothing but that note
git         git itself, as a process like any other
command     a command to its end: its output bounded, its time limited, its tree gone
"""

from clinvoker.worktrees.snapshot import Snapshot
from clinvoker.worktrees.worktree import Changed, Checked, Worktree
from clinvoker.worktrees.worktrees import Worktrees

__all__ = ["Changed", "Checked", "Snapshot", "Worktree", "Worktrees"]
