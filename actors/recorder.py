"""What a run's work writes to: events in, numbered entries out; and the answers to permissions."""

from collections.abc import Callable

import trio
from msgspec import UNSET, Raw, Struct, UnsetType
from msgspec.structs import replace

from actors.asks import Announce
from actors.calls import Calls
from actors.errors import Code, Refusal
from actors.log import Log
from actors.messages import Complete, Event, Failed, Leave, Message, Permission, Start, ToolResult


class RunLimits(Struct, frozen=True):
    """Bounds of a run, in seconds and bytes."""

    total: float = 300.0
    first_event: float = 120.0
    idle: float = 120.0
    permission: float = 60.0
    client_tool: float = 300.0
    reattach: float = 1.0
    transcript: int = 16 * 1024 * 1024


class Identity(Struct, frozen=True):
    """Who a run is: its id, and what its events carry."""

    run_id: str
    session_id: str
    backend: str
    detached: bool = False
    owner: str = ""
    """Whose run it is: nobody else finds it."""


class Recorder:
    """One turn's record in a run's log. That of a run of several turns has a `branch` for each of them.

    The record of the run ends the log with its terminal event; that of a branch ends with its own, and the log goes on.
    """

    def __init__(self, identity: Identity, limits: RunLimits, calls: Calls, *, kept: bool = False) -> None:
        self.identity = identity
        self.limits = limits
        self.calls = calls
        self.log = Log(identity.run_id, limits.transcript, awaits_keeping=kept)
        self.task: int | UnsetType = UNSET
        self.outcome: Complete | Failed | None = None
        self.began = trio.current_time()
        self.ended: float | None = None
        """On trio's clock, as `began`."""
        self.first_event: float | None = None
        """Seconds from the beginning to the first event."""
        self.first_text: float | None = None
        """Seconds from the beginning to the first piece of the answer."""
        self.start: Start | None = None
        self.permissions: dict[str, tuple[Permission, trio.Event]] = {}
        self.answers: dict[str, Leave] = {}
        self.summary: Callable[[], Raw] | None = None
        """Tells the whole result for the run's last event, however it comes to end."""
        self.on_end: Callable[[], None] | None = None
        """Told when there is an outcome."""
        self._texts: list[str] = []
        self._trunk: Recorder | None = None
        self._branches: list[Recorder] = []

    @property
    def took(self) -> float:
        """Seconds from the beginning to the end, or until now."""
        return self.elapsed if self.ended is None else self.ended - self.began

    @property
    def begun(self) -> bool:
        """Whether the turn was accepted: its first event was no failure."""
        return self.first_event is not None

    @property
    def text(self) -> str:
        """The answer so far."""
        return "".join(self._texts)

    @property
    def elapsed(self) -> float:
        """Seconds since the beginning."""
        return trio.current_time() - self.began

    def branch(self, task: int, backend: str, session_id: str) -> "Recorder":
        """The record of one task of this run, in the same log."""
        identity = replace(self.identity, backend=backend, session_id=session_id)
        branch = Recorder(identity, self.limits, self.calls)
        branch.log, branch.task, branch._trunk = self.log, task, self
        self._branches.append(branch)
        return branch

    def record(self, events: list[Event]) -> None:
        """Append events; a terminal one is the outcome, and that of the run ends the log. Later ones are dropped."""
        if self.outcome is not None or self.log.ended or not events:
            return
        self._note_beginning(events)
        self._texts.append("".join(event.text for event in events if type(event) is Message))
        last = events[-1]
        if isinstance(last, Complete | Failed):
            self.ended = trio.current_time()
            self.outcome = last = self._filled_in(last)
            events = [*events[:-1], last]
        self.log.append(events, self.identity.backend, self.identity.session_id, self.task)
        if self.outcome is None:
            return
        if self.task is UNSET:
            self.log.end()
        if self.on_end is not None:
            self.on_end()

    def take_back(self, why: Failed) -> None:
        """End the log after what is kept of it: what cannot be kept is not told. A failure of its own stays the end."""
        last = self.outcome if isinstance(self.outcome, Failed) else why
        self.outcome = None
        self.log.give_up_keeping()
        self.record([last])

    async def ask_caller(self, permission: Permission, announce: Announce) -> Leave:
        """Put a permission to the caller; a no after `limits.permission` seconds without an answer.

        It is announced among the turn's events, so that it stands after what the agent said before it.
        """
        if self.task is not UNSET:
            # Two agents may call their questions by the same name.
            permission = replace(permission, id=f"{self.task}.{permission.id}")
        answered = trio.Event()
        self.permissions[permission.id] = (permission, answered)
        announce(permission)
        try:
            with trio.move_on_after(self.limits.permission):
                await answered.wait()
        finally:
            del self.permissions[permission.id]
        leave = self.answers.pop(permission.id, None)
        if leave is None:
            waited = f"denied: nobody answered within {self.limits.permission:g} s"
            announce(ToolResult(permission.id, waited, is_error=True))
        return leave or "deny"

    def answer(self, permission: str, leave: str) -> None:
        """Answer a permission that is open."""
        asking = next((one for one in (self, *self._branches) if permission in one.permissions), None)
        if asking is None:
            raise Refusal(Code.NOT_FOUND, f"no permission {permission} is open in this run")
        asked, answered = asking.permissions[permission]
        for option in asked.options:
            if option == leave:
                asking.answers[permission] = option
                answered.set()
                return
        raise Refusal(
            Code.INVALID_REQUEST, f"option must be one of {', '.join(asked.options)}", param="option"
        )

    def _note_beginning(self, events: list[Event]) -> None:
        first = events[0]
        if self.first_event is None and not isinstance(first, Failed):
            self.first_event = self.elapsed
            if self._trunk is not None and self._trunk.first_event is None:
                self._trunk.first_event = self._trunk.elapsed
        if isinstance(first, Start):
            self.start = first
        if self.first_text is None and any(type(event) is Message for event in events):
            self.first_text = self.elapsed

    def _filled_in(self, last: Complete | Failed) -> Complete | Failed:
        if isinstance(last, Complete):
            last = replace(last, output=self.text, duration_ms=round(self.elapsed * 1000))
        return last if self.summary is None else replace(last, result=self.summary())
