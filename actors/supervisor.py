"""Supervision, in OTP's terms.

A `Supervisor` starts its children in order, restarts the ones that crash, and stops them in reverse order. When a
child crashes more often than the restart intensity allows, the supervisor stops all its children and then itself, by
raising `RestartsExhausted`: repeated crashes end loudly, one level up.

A `DynamicSupervisor` is an actor whose temporary children come and go by name: never restarted, always reported.
"""

from collections import deque
from collections.abc import Callable, Sequence
from enum import Enum
from typing import Any

import trio
from msgspec import Struct

from actors.actor import Actor
from actors.change import Change
from actors.errors import Code, Refusal
from actors.mailbox import Ask, Mailbox, Ref, Tell
from actors.telemetry import ChildEnded, Observer


class Strategy(Enum):
    """Whom a crash takes along: nobody else, the children started after it, or all."""

    ONE_FOR_ONE = "one_for_one"
    REST_FOR_ONE = "rest_for_one"
    ONE_FOR_ALL = "one_for_all"


class Intensity(Struct, frozen=True):
    """At most `restarts` within any `seconds`. Elixir's default; OTP's own is 1 in 5."""

    restarts: int = 3
    seconds: float = 5.0


class ChildSpec(Struct, frozen=True):
    """A static child: its name, how to make a fresh incarnation, and how long its orderly stop may take (seconds)."""

    name: str
    start: Callable[[], Actor]
    shutdown: float = 5.0


class RestartsExhausted(Exception):  # noqa: N818 - the condition's name in the field
    """A child crashed more often than the restart intensity allows; its last crash is the cause."""


BACKOFF = (0.1, 0.2, 0.4, 0.8, 1.6, 2.0)
"""Seconds before the n-th restart within the intensity's window."""


class Child:
    """One supervised actor: its mailbox, and the incarnation that runs now.

    It runs shielded from outside cancellation: only `stop` ends it, so that its supervisor decides the order.
    """

    def __init__(self, name: str, make: Callable[[], Actor], shutdown: float) -> None:
        self.mailbox = Mailbox(name)
        self.shutdown = shutdown
        self._make = make
        self._actor: Actor | None = None
        self._stopped = False
        self._scope = trio.CancelScope()
        self._up = trio.Event()
        self._ended = trio.Event()
        self._ended.set()

    @property
    def name(self) -> str:
        """The child's name."""
        return self.mailbox.name

    def start(self, nursery: trio.Nursery, observe: Observer, ended: "Ended") -> None:
        """Run an incarnation in `nursery`; `ended` is told of its end. From here on `stop` ends it."""
        self._stopped = False
        self._scope = trio.CancelScope(shield=True)
        self._up = trio.Event()
        self._ended = trio.Event()
        nursery.start_soon(self._run, observe, ended)

    async def wait_up(self) -> None:
        """Wait until the incarnation has started, or failed to."""
        await self._up.wait()

    async def stop(self) -> None:
        """End the incarnation in order within `shutdown` seconds, else cancel it; returns when it is gone."""
        self._stopped = True
        with trio.CancelScope(shield=True):
            with trio.move_on_after(self.shutdown):
                if self._actor is not None:
                    self._actor.end()
                await self._ended.wait()
            self._scope.cancel()
            await self._ended.wait()

    async def _run(self, observe: Observer, ended: "Ended") -> None:
        error: Exception | None = None
        try:
            with self._scope:
                if not self._stopped:
                    self._actor = self._make()
                    await self._actor.run(self.mailbox, observe, self.shutdown, self._up.set)
        except Exception as crash:  # noqa: BLE001 - a crash of any kind is what a supervisor is for
            error = crash
        finally:
            self._actor = None
            self._up.set()
            self._ended.set()
            ended(self, error)


Ended = Callable[[Child, Exception | None], None]
"""Told which child came to its end, and what it crashed with: None if it ended in order."""


class Supervisor:
    """Static children under one strategy and one restart intensity."""

    def __init__(
        self,
        specs: Sequence[ChildSpec],
        observe: Observer,
        strategy: Strategy = Strategy.ONE_FOR_ONE,
        intensity: Intensity = Intensity(),  # noqa: B008 - frozen
    ) -> None:
        self._children = [Child(spec.name, spec.start, spec.shutdown) for spec in specs]
        self._observe = observe
        self._strategy = strategy
        self._intensity = intensity
        self._restarts: deque[float] = deque()
        self._ends: list[tuple[Child, Exception | None]] = []
        """Ends not yet dealt with: one of a child at most."""
        self._changed = Change()

    @property
    def refs(self) -> dict[str, Ref]:
        """The children's addresses, by name; good before and across incarnations."""
        return {child.name: child.mailbox.ref for child in self._children}

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Supervise until cancelled. Raises `RestartsExhausted`."""
        exhausted: list[RestartsExhausted] = []
        async with trio.open_nursery() as nursery:
            try:
                for child in self._children:
                    await self._start(nursery, child)
                task_status.started()
                while True:
                    await self._changed.wait_until(lambda: self._ends)
                    await self._restart(nursery, *self._ends.pop(0))
            except RestartsExhausted as error:
                exhausted.append(error)
            finally:
                await self._stop(self._children, restarted=False)
        if exhausted:
            # Raised out here, or the nursery would wrap it.
            raise exhausted[0]

    async def _start(self, nursery: trio.Nursery, child: Child) -> None:
        child.start(nursery, self._observe, self._note_end)
        await child.wait_up()

    def _note_end(self, child: Child, error: Exception | None) -> None:
        self._ends.append((child, error))
        self._changed.announce()

    async def _restart(self, nursery: trio.Nursery, crashed: Child, error: Exception | None) -> None:
        count = self._count_restart()
        exhausted = count > self._intensity.restarts
        self._observe(ChildEnded(crashed.name, error, restarted=not exhausted))
        if exhausted:
            raise RestartsExhausted(
                f"{crashed.name} ended {count} times within {self._intensity.seconds:g} s: {error!r}"
            ) from error
        affected = self._affected(crashed)
        await self._stop(affected, restarted=True)
        await trio.sleep(BACKOFF[min(count, len(BACKOFF)) - 1])
        for child in affected:
            await self._start(nursery, child)

    async def _stop(self, children: list[Child], *, restarted: bool) -> None:
        """Stop children in reverse order. Such an end is no crash to react to, but one that went wrong is reported."""
        for child in reversed(children):
            await child.stop()
            if not restarted:
                child.mailbox.close()
        for child, error in self._ends:
            if child in children and error is not None:
                self._observe(ChildEnded(child.name, error, restarted=restarted))
        self._ends = [end for end in self._ends if end[0] not in children]

    def _count_restart(self) -> int:
        now = trio.current_time()
        self._restarts.append(now)
        while self._restarts[0] < now - self._intensity.seconds:
            self._restarts.popleft()
        return len(self._restarts)

    def _affected(self, crashed: Child) -> list[Child]:
        match self._strategy:
            case Strategy.ONE_FOR_ONE:
                return [crashed]
            case Strategy.REST_FOR_ONE:
                return self._children[self._children.index(crashed) :]
            case Strategy.ONE_FOR_ALL:
                return list(self._children)


class Spawn(Ask[Ref], frozen=True):
    """Start a temporary child under a name; answered with its address. Refused (`BUSY`) beyond the limit."""

    name: str
    actor: Actor


class Find(Ask[Ref | None], frozen=True):
    """The address of a live child."""

    name: str


class Count(Ask[int], frozen=True):
    """How many children live."""


class DynamicSupervisor(Actor):
    """Temporary children by name, each with `shutdown` seconds to stop: a crash ends one child, and is reported."""

    def __init__(self, kind: str, observe: Observer, limit: int, shutdown: float = 5.0) -> None:
        super().__init__()
        self._shutdown = shutdown
        self._kind = kind
        self._observe = observe
        self._limit = limit
        self._children: dict[str, Child] = {}

    async def receive(self, message: Tell | Ask[Any]) -> object:
        """Answer `Spawn`, `Find` and `Count`."""
        match message:
            case Spawn(name=name, actor=actor):
                if len(self._children) >= self._limit:
                    raise Refusal(Code.BUSY, f"too many {self._kind} are open", retry_after=1.0)
                if name in self._children:
                    raise Refusal(Code.INTERNAL, f"{name} exists among the {self._kind} already")
                child = self._children[name] = Child(name, lambda: actor, self._shutdown)
                child.start(self.nursery, self._observe, self._note_end)
                return child.mailbox.ref
            case Find(name=name):
                child = self._children.get(name)
                return child.mailbox.ref if child else None
            case Count():
                return len(self._children)
            case _:
                return await super().receive(message)

    async def stopping(self) -> None:
        """Stop all children, side by side."""
        async with trio.open_nursery() as nursery:
            for child in list(self._children.values()):
                nursery.start_soon(child.stop)

    def _note_end(self, child: Child, error: Exception | None) -> None:
        del self._children[child.name]
        child.mailbox.close()
        if error is not None:
            self._observe(ChildEnded(child.name, error, restarted=False))
