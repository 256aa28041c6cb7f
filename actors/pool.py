"""The runners of one backend: who gets which process, and how many there are.

A turn leases a runner: the one that holds its session's conversation, else a spare, else a new one. A lease is a
stream that emits the runner and then stays open; closing it, for whatever reason, gives the runner back.

Spares follow use: the options of the last `spares` leases are the ones kept warm, at boot the default ones. What
a caller asks for may be wrong, so only options that a process has started with are kept warm, and only a failure of
the default ones tells of the backend.
Decisions are made synchronously, by `slots`; only then is anything awaited here.
"""

from collections.abc import Callable
from contextlib import closing, suppress
from functools import partial
from typing import Any, ClassVar

import trio

from actors.actor import Actor
from actors.change import Change
from actors.driver import Driver
from actors.errors import ActorDied, Code, Refusal
from actors.lease import Close, Lease, PoolLimits, PoolStatus, Released, Status, Verdict
from actors.mailbox import Ask, Emit, Ref, Stream, Tell
from actors.messages import Failed, Options
from actors.runner import Forget, Ready, Runner
from actors.slots import Slot, Slots
from actors.supervisor import Child
from actors.telemetry import (
    ChildEnded,
    Observer,
    PoolLevel,
    ProcessEnded,
    ProcessSpent,
    ProcessStarted,
    Record,
)

REFILL_DELAY = 1.0
"""Seconds after which a used spare is replaced at the latest; before that, the turn has the processor to itself."""

PATIENCE = 3
"""Failed starts in a row before the pool stops trying for a while."""

CALLERS_FAULT = frozenset({Code.INVALID_REQUEST, Code.UNSUPPORTED, Code.NOT_FOUND, Code.MODEL_NOT_FOUND})
"""Failed starts that say nothing about the backend."""

YOUNG = 5.0
"""A process that dies unused within so many seconds has failed to start."""

BACKOFF_CAP = 30.0
"""The longest the pool waits between attempts, seconds."""


class Pool(Actor):
    """The processes of one backend."""

    make_runner: ClassVar[Callable[..., Actor]] = Runner
    """What is started for a process; a test may put in its place an actor that starts none."""

    def __init__(
        self,
        driver: Driver,
        limits: PoolLimits,
        default: Options,
        marker: Callable[[], str],
        observe: Observer,
    ) -> None:
        super().__init__()
        self._driver = driver
        self._limits = limits
        self._marker = marker
        self._observe = observe
        self._slots = Slots(driver, limits, default)
        self._spawning = trio.CapacityLimiter(limits.max_spawning)
        self._room = trio.Semaphore(limits.max_processes)
        self._line = trio.Lock()
        """Leases that wait for a place, in the order they came."""
        self._waiting = 0
        self._changed = Change()
        self._serial = 0
        self._failures = 0
        self._retry_at = -float("inf")
        self._retrying = False
        self._reason: Refusal | None = None
        self._told: ProcessEnded | None = None
        """The last failed start that was reported; the same again, with none that succeeds between, is not."""
        self._login: Failed | None = None
        self._stopping = False

    async def started(self) -> None:
        """Start the spares, beside the mailbox."""
        self._refill()
        self.nursery.start_soon(self._evict_expired)

    async def receive(self, message: Tell | Ask[Any]) -> object:
        """Answer `Status`, take `Close` and `Verdict`."""
        match message:
            case Status():
                return self._status()
            case Close(session=session):
                self._close(session)
                return None
            case Verdict(failed=failed):
                self._login = failed if failed is not None and failed.code is Code.NOT_LOGGED_IN else None
                return None
            case _:
                return await super().receive(message)

    async def admit(self, message: Stream[Any]) -> None:
        """Accept a lease, unless starting a process has failed too often just now."""
        if not isinstance(message, Lease):
            await super().admit(message)
        elif self._reason is not None and (wait := self._retry_at - trio.current_time()) > 0:
            raise Refusal(self._reason.code, self._reason.message, retry_after=wait)

    async def produce(self, message: Stream[Any], emit: Emit[Any]) -> None:
        """Hold a lease until its holder closes it."""
        match message:
            case Lease():
                await self._lend(message, emit)
            case _:
                await super().produce(message, emit)

    async def stopping(self) -> None:
        """End all processes, side by side; their sessions hear of it, for the pool may have crashed."""
        self._stopping = True
        async with trio.open_nursery() as nursery:
            for slot in self._slots:
                slot.evicted = True
                self._remove(slot, died=True)
                nursery.start_soon(slot.child.stop)

    # Leases.

    async def _lend(self, lease: Lease, emit: Emit[Ref]) -> None:
        slot = await self._take(lease)
        try:
            await slot.up.wait()
            if slot.failure is not None:
                raise slot.failure
            self._slots.want(lease.options)
            if self._limits.spares and not slot.sessions and not self._driver.shared:
                self.nursery.start_soon(self._refill_later, REFILL_DELAY)
            slot.sessions[lease.session] = lease.holder
            slot.sessions.move_to_end(lease.session)
            await emit(slot.runner)
            await trio.sleep_forever()
        finally:
            self._give_back(slot, lease.session)

    async def _take(self, lease: Lease) -> Slot:
        """The slot for a lease, with the lease counted in. While the pool is full, leases wait in line."""
        slot = self._slots.live(lease.session) or (None if self._waiting else self._slots.fitting(lease))
        if slot is None:
            self._count_waiting(1)
            try:
                async with self._line:
                    await self._changed.wait_until(lambda: self._has_place(lease))
                    slot = self._slots.fitting(lease) or self._make_room_and_spawn(lease)
            finally:
                self._count_waiting(-1)
        slot.used = True
        slot.leases.add(lease.session)
        self._report()
        return slot

    def _give_back(self, slot: Slot, session: str) -> None:
        slot.leases.discard(session)
        slot.idle_since = trio.current_time()
        if session not in slot.sessions:
            self._forget(slot, session)
        self._evict_surplus(slot)
        self._refill()
        self._note_change()

    def _has_place(self, lease: Lease) -> bool:
        """Whether there is a process for a lease, or may be one now."""
        return not self._slots.full or bool(self._slots.fitting(lease) or self._slots.idle())

    def _make_room_and_spawn(self, lease: Lease) -> Slot:
        """A new process, in the place of an idle one if need be."""
        if self._slots.full:
            self._evict(self._slots.idle()[0])
        return self._spawn(lease.options, lease.resume)

    def _close(self, session: str) -> None:
        """Drop a session's conversation; a process that can hold no other goes with it."""
        slot = self._slots.live(session)
        if slot is not None:
            del slot.sessions[session]
            if session not in slot.leases:
                self._forget(slot, session)

    def _forget(self, slot: Slot, session: str) -> None:
        if self._driver.shared:
            self.nursery.start_soon(_tell, slot.runner, Forget(session))
        else:
            self._evict(slot)

    # Processes.

    def _spawn(self, options: Options, resume: str | None = None) -> Slot:
        self._serial += 1
        limits = self._limits.runner

        def observe(record: Record) -> None:
            slot.spent = slot.spent or isinstance(record, ProcessSpent)
            if not self._is_told(record):
                self._observe(record)

        make = partial(self.make_runner, self._driver, options, self._marker(), limits, observe, resume)
        child = Child(f"{self._driver.name}-{self._serial}", make, limits.kill + 1.0)
        slot = Slot(child, self._driver.fixed_at_spawn(options, resume))
        self._slots.add(slot)
        self.nursery.start_soon(self._start, slot)
        return slot

    async def _start(self, slot: Slot) -> None:
        """Bring a process up, a few at a time: starting is what costs an agent most."""
        async with self._spawning:
            # Those that were told to end count until they are gone.
            await self._room.acquire()
            if slot.dropped:
                self._room.release()
                return
            slot.child.start(self.nursery, self._observe, partial(self._note_end, slot))
            try:
                with closing(await slot.runner.stream(Ready())) as ready:
                    await ready.next()
            except Refusal as refusal:
                slot.failure = refusal
            except ActorDied as death:
                slot.failure = Refusal(
                    Code.BACKEND_UNAVAILABLE, f"{self._driver.name} did not start: {death}"
                )
        slot.up.set()
        if slot.failure is None:
            self._note_success()
        elif not slot.evicted:
            self._note_failure(slot, slot.failure)
        self._note_change()

    def _note_end(self, slot: Slot, child: Child, error: Exception | None) -> None:
        """A process has ended: whoever had a conversation there is told, and a spare is replaced."""
        child.mailbox.close()
        self._room.release()
        if error is not None:
            self._observe(ChildEnded(child.name, error, restarted=False))
        if not slot.dropped:
            self._remove(slot, died=True)
            if slot.up.is_set() and slot.failure is None:
                if slot.spare and trio.current_time() - slot.born < YOUNG:
                    ended = f"{self._driver.name} ended soon after its start"
                    self._note_failure(slot, Refusal(Code.BACKEND_UNAVAILABLE, ended))
                self._refill()
        self._note_change()

    def _remove(self, slot: Slot, *, died: bool) -> None:
        self._slots.remove(slot)
        for session in slot.sessions.values():
            self.nursery.start_soon(_tell, session, Released(slot.runner, died))

    def _evict(self, slot: Slot) -> None:
        if not slot.dropped:
            slot.evicted = True
            self._remove(slot, died=False)
            self.nursery.start_soon(slot.child.stop)

    def _note_success(self) -> None:
        recovered = self._failures > 0
        self._failures = 0
        self._reason = None
        if recovered:
            self._refill()

    def _note_failure(self, slot: Slot, reason: Refusal) -> None:
        """Remember why a start failed; after too many in a row, stop trying for a while."""
        if not self._slots.is_default(slot):
            self._slots.unwant(slot)
            self._keep_spares()
            return
        if reason.code in CALLERS_FAULT:
            return
        self._failures += 1
        self._reason = reason
        # What is not installed is looked for at every request anyway, and costs nothing to look for.
        if self._failures >= PATIENCE and reason.code is not Code.NOT_INSTALLED:
            pause = min(2.0 ** (self._failures - PATIENCE), BACKOFF_CAP)
            self._retry_at = trio.current_time() + pause
        if not self._retrying:
            self._retrying = True
            self.nursery.start_soon(self._retry)

    async def _retry(self) -> None:
        """Try to start the spares again, when the time has come."""
        missing = self._reason is not None and self._reason.code is Code.NOT_INSTALLED
        await trio.sleep(BACKOFF_CAP if missing else 1.0)
        await trio.sleep_until(self._retry_at)
        self._retrying = False
        self._keep_spares()

    # Spares and idle processes.

    def _refill(self) -> None:
        """Keep the spares up, unless starting them fails now: then that waits for its time."""
        if not self._failures:
            self._keep_spares()

    def _keep_spares(self) -> None:
        """Start the spares that are missing, and end those that nobody would ask for now."""
        if self._stopping or self._waiting:
            return
        surplus, missing = self._slots.plan_spares()
        for slot in surplus:
            self._evict(slot)
        for options in missing:
            if not self._slots.full:
                self._spawn(options)
        self._report()

    async def _refill_later(self, delay: float) -> None:
        await trio.sleep(delay)
        self._refill()

    def _evict_surplus(self, slot: Slot) -> None:
        """Hold to the bounds on live conversations and on idle processes."""
        while (oldest := self._slots.surplus_session(slot)) is not None:
            released = Released(slot.runner, died=False)
            self.nursery.start_soon(_tell, slot.sessions.pop(oldest), released)
            self.nursery.start_soon(_tell, slot.runner, Forget(oldest))
        for idle in self._slots.surplus_idle():
            self._evict(idle)

    async def _evict_expired(self) -> None:
        """End idle processes when their time is up."""
        while True:
            now = trio.current_time()
            expiries = self._slots.expiries()
            for slot, expiry in expiries.items():
                if expiry <= now:
                    self._evict(slot)
            await trio.sleep_until(
                min((at for at in expiries.values() if at > now), default=now + self._limits.idle_ttl)
            )

    # What others see.

    def _is_told(self, record: Record) -> bool:
        """Whether this is a failed start like the last one: what is not installed would be reported for ever."""
        match record:
            case ProcessStarted():
                self._told = None
            case ProcessEnded(reason="failed_to_start"):
                told, self._told = self._told, record
                return record == told
            case _:
                pass
        return False

    def _count_waiting(self, change: int) -> None:
        self._waiting += change
        self._report()

    def _status(self) -> PoolStatus:
        busy, idle, spare = self._slots.levels()
        reason = ""
        if self._reason is not None:
            reason = self._reason.message
        elif self._login is not None:
            reason = self._login.message
        return PoolStatus(not reason, reason, idle + spare, busy, self._waiting)

    def _note_change(self) -> None:
        self._changed.announce()
        self._report()

    def _report(self) -> None:
        busy, idle, spare = self._slots.levels()
        self._observe(PoolLevel(self._driver.name, busy, idle, spare, self._waiting))


async def _tell(ref: Ref, message: Tell) -> None:
    """Tell an actor that may be gone by now."""
    with suppress(ActorDied):
        await ref.tell(message)
