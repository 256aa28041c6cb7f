"""One task of a fan-out: its turn, and what came of it."""

from typing import Literal

import trio

from actors.errors import Code
from actors.messages import Complete, Failed, Options, Prompt
from actors.recorder import Recorder
from clinvoker.turns import Ready
from clinvoker.worktrees import Changed, Checked, Snapshot

Status = Literal["completed", "failed", "cancelled"]


class Task:
    """A task, from before it begins to its end. Without `ready` it cannot be begun: `failure` says why."""

    def __init__(
        self, number: int, ready: Ready | None, backend: str = "", failure: Failed | None = None
    ) -> None:
        self.number = number
        self.ready = ready
        self.backend = backend if ready is None else ready.record.backend
        self.options = Options() if ready is None else ready.record.options
        """What the turn is taken with; a step may be told its directory late."""
        self.prompt = Prompt("") if ready is None else ready.call.prompt
        self.failure = failure
        """What went wrong beside the turn itself."""
        self.record: Recorder | None = None
        """Of its turn; None if that never began."""
        self.snapshot: Snapshot | None = None
        """What its worktree begins with."""
        self.together = 1
        """How many tasks share what their run may tell of changes."""
        self.branch = ""
        self.kept = False
        self.changed: Changed | None = None
        self.checked: Checked | None = None
        self.settled = trio.Event()
        """Set once nothing more will come of it, though its agent may yet wind down."""

    @property
    def outcome(self) -> Complete | Failed | None:
        """How it ended; None as long as it has not."""
        return self.failure or (None if self.record is None else self.record.outcome)

    @property
    def status(self) -> Status:
        """How it ended, in a word; what never came to an end was cancelled."""
        match self.outcome:
            case Complete():
                return "completed"
            case Failed(code=code) if code is not Code.CANCELLED:
                return "failed"
            case _:
                return "cancelled"

    @property
    def began(self) -> bool:
        """Whether its agent has accepted it."""
        return self.record is not None and self.record.begun

    @property
    def output(self) -> str:
        """The answer, as far as it came."""
        return "" if self.record is None else self.record.text

    def fail(self, failed: Failed) -> None:
        """Note a failure, as the end of the turn if that has none yet."""
        if self.record is not None and self.record.outcome is None:
            self.record.record([failed])
        else:
            self.failure = failed
