"""What a run's work writes to: its events, and what it asks its caller meanwhile."""

import trio
from msgspec import UNSET, Struct, UnsetType
from msgspec.structs import replace

from actors.asks import Announce
from actors.calls import Calls
from actors.errors import Code, Refusal
from actors.log import Log
from actors.messages import Complete, Event, Failed, Leave, Message, Permission, ToolResult


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
    """What a run's work writes to: events in, answers to permissions out."""

    def __init__(self, identity: Identity, limits: RunLimits, calls: Calls, *, kept: bool = False) -> None:
        self.identity = identity
        self.limits = limits
        self.calls = calls
        self.log = Log(identity.run_id, limits.transcript, awaits_keeping=kept)
        self.outcome: Complete | Failed | None = None
        self.began = trio.current_time()
        self.first_event: float | None = None
        self.permissions: dict[str, tuple[Permission, trio.Event]] = {}
        self.answers: dict[str, Leave] = {}
        self._texts: list[str] = []

    @property
    def begun(self) -> bool:
        """Whether the turn was accepted: its first event was no failure."""
        return self.first_event is not None

    def record(self, events: list[Event], task: int | UnsetType = UNSET) -> None:
        """Append events; a terminal one ends the log and is the run's outcome. Later ones are dropped."""
        if self.outcome is not None or not events:
            return
        if self.first_event is None and not isinstance(events[0], Failed):
            self.first_event = trio.current_time() - self.began
        self._texts.append("".join(event.text for event in events if type(event) is Message))
        last = events[-1]
        if isinstance(last, Complete):
            duration_ms = round((trio.current_time() - self.began) * 1000)
            last = replace(last, output="".join(self._texts), duration_ms=duration_ms)
            events = [*events[:-1], last]
        if isinstance(last, Complete | Failed):
            self.outcome = last
        self.log.append(events, self.identity.backend, self.identity.session_id, task)
        if self.outcome is not None:
            self.log.end()

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
        if permission not in self.permissions:
            raise Refusal(Code.NOT_FOUND, f"no permission {permission} is open in this run")
        asked, answered = self.permissions[permission]
        for option in asked.options:
            if option == leave:
                self.answers[permission] = option
                answered.set()
                return
        raise Refusal(
            Code.INVALID_REQUEST, f"option must be one of {', '.join(asked.options)}", param="option"
        )
