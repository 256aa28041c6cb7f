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
from actors.errors import ActorDied, Code, Refusal
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
        self._scope = trio.CancelScope()
        self._ended = trio.Event()
        self._ended.set()

    @property
    def name(self) -> str:
        """The child's name."""
        return self.mailbox.name

    async def run(
        self, observe: Observer, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> Exception | None:
        """Run one incarnation to its end and return what it crashed with, None if it ended in order."""
        self._ended = trio.Event()
        self._scope = trio.CancelScope(shield=True)
        try:
            with self._scope:
                self._actor = self._make()
                task_status.started()
                await self._actor.run(self.mailbox, observe)
        except Exception as error:  # noqa: BLE001 - a crash of any kind is what a supervisor is for
            return error
        finally:
            self._actor = None
            self._ended.set()
        return None

    async def stop(self) -> None:
        """End the incarnation in order within `shutdown` seconds, else cancel it; returns when it is gone."""
        with trio.CancelScope(shield=True):
            with trio.move_on_after(self.shutdown):
                if self._actor is not None:
                    self._actor.end()
                await self._ended.wait()
            self._scope.cancel()
            await self._ended.wait()


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
        self._ends_send, self._ends = trio.open_memory_channel[tuple[Child, Exception | None]](len(specs))

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
                    child, error = await self._ends.receive()
                    await self._restart(nursery, child, error)
            except RestartsExhausted as error:
                exhausted.append(error)
            finally:
                for child in reversed(self._children):
                    await child.stop()
                    child.mailbox.close()
        if exhausted:
            # Raised out here, or the nursery would wrap it.
            raise exhausted[0]

    async def _start(self, nursery: trio.Nursery, child: Child) -> None:
        await nursery.start(self._run_child, child)

    async def _run_child(self, child: Child, *, task_status: trio.TaskStatus[None]) -> None:
        error = await child.run(self._observe, task_status=task_status)
        self._ends_send.send_nowait((child, error))

    async def _restart(self, nursery: trio.Nursery, crashed: Child, error: Exception | None) -> None:
        count = self._count_restart()
        exhausted = count > self._intensity.restarts
        self._observe(ChildEnded(crashed.name, error, restarted=not exhausted))
        if exhausted:
            raise RestartsExhausted(
                f"{crashed.name} ended {count} times within {self._intensity.seconds:g} s: {error!r}"
            ) from error
        affected = self._affected(crashed)
        for child in reversed(affected):
            await child.stop()
        self._forget_ends_of(affected)
        await trio.sleep(BACKOFF[min(count, len(BACKOFF)) - 1])
        for child in affected:
            await self._start(nursery, child)

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

    def _forget_ends_of(self, stopped: list[Child]) -> None:
        """Ends that we brought about ourselves are no crashes."""
        kept: list[tuple[Child, Exception | None]] = []
        while self._ends.statistics().current_buffer_used:
            end = self._ends.receive_nowait()
            if end[0] not in stopped:
                kept.append(end)
        for end in kept:
            self._ends_send.send_nowait(end)


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
    """Temporary children by name: a crash ends that child only, and is reported."""

    def __init__(self, kind: str, observe: Observer, limit: int, shutdown: float = 5.0) -> None:
        super().__init__()
        self.shutdown = shutdown
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
                child = self._children[name] = Child(name, lambda: actor, self.shutdown)
                await self.nursery.start(self._run_child, child)
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

    async def _run_child(self, child: Child, *, task_status: trio.TaskStatus[None]) -> None:
        error: Exception | None = ActorDied(f"{child.name} was cut short")
        try:
            error = await child.run(self._observe, task_status=task_status)
        finally:
            self._children.pop(child.name, None)
            child.mailbox.close()
            if error is not None:
                self._observe(ChildEnded(child.name, error, restarted=False))
