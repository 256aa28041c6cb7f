"""The runners of one backend: who gets which process, and how many there are.

A turn leases a runner: the one that holds its session's conversation, else a spare, else a new one. A lease is a
stream that emits the runner and then stays open; closing it, for whatever reason, gives the runner back.

Spares follow use: the options of the last `spares` leases are the ones kept warm, at boot the default ones.
Decisions are made synchronously on the slots below; only then is anything awaited.
"""

from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Hashable
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
from actors.supervisor import Child
from actors.telemetry import ChildEnded, Observer, PoolLevel, ProcessSpent, Record

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


class _Slot:
    """One runner and what it is used for."""

    def __init__(self, child: Child, key: Hashable) -> None:
        self.child = child
        self.key = key
        self.up = trio.Event()
        """Set once the start has succeeded or failed."""
        self.failure: Refusal | None = None
        self.born = self.idle_since = trio.current_time()
        self.leases: set[str] = set()
        """Sessions with a turn in hand here."""
        self.sessions: OrderedDict[str, Ref] = OrderedDict()
        """Sessions whose conversations are live here, the least recently used first."""
        self.used = False
        self.spent = False
        """Whether its process takes no more turns, though its runner has not ended yet."""
        self.dropped = False
        """Whether it is no longer one of the pool's."""
        self.evicted = False
        """Whether the pool itself ends it, so that its end says nothing about the backend."""

    @property
    def runner(self) -> Ref:
        return self.child.mailbox.ref

    @property
    def spare(self) -> bool:
        """Whether nobody has used it yet."""
        return not self.used and not self.leases


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
        self._slots: list[_Slot] = []
        self._wanted = deque([default] * limits.spares, maxlen=limits.spares)
        """The options to keep spares for: those of the last leases."""
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
            for slot in list(self._slots):
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
            slot.sessions[lease.session] = lease.holder
            slot.sessions.move_to_end(lease.session)
            await emit(slot.runner)
            await trio.sleep_forever()
        finally:
            self._give_back(slot, lease.session)

    async def _take(self, lease: Lease) -> _Slot:
        """The slot for a lease, with the lease counted in. While the pool is full, leases wait in line."""
        slot = self._live(lease.session) or (None if self._waiting else self._fitting(lease))
        if slot is None:
            self._count_waiting(1)
            try:
                async with self._line:
                    await self._changed.wait_until(lambda: self._has_place(lease))
                    slot = self._fitting(lease) or self._make_room_and_spawn(lease)
            finally:
                self._count_waiting(-1)
        first_use = slot.spare
        slot.used = True
        slot.leases.add(lease.session)
        if self._limits.spares:
            self._wanted.append(lease.options)
            if first_use and not self._driver.shared:
                self.nursery.start_soon(self._refill_later, REFILL_DELAY)
        self._report()
        return slot

    def _give_back(self, slot: _Slot, session: str) -> None:
        slot.leases.discard(session)
        slot.idle_since = trio.current_time()
        if session not in slot.sessions:
            self._forget(slot, session)
        self._evict_surplus(slot)
        self._refill()
        self._note_change()

    def _live(self, session: str) -> _Slot | None:
        """The slot that holds the session's conversation."""
        return next((slot for slot in self._slots if session in slot.sessions and not slot.spent), None)

    def _fitting(self, lease: Lease) -> _Slot | None:
        """A process that can take one more conversation, the readiest first."""
        key = self._driver.fixed_at_spawn(lease.options, lease.resume)
        fitting = [
            slot
            for slot in self._slots
            if slot.key == key and not (slot.failure or slot.spent) and (self._driver.shared or slot.spare)
        ]
        return min(fitting, key=lambda slot: (not slot.up.is_set(), slot.born), default=None)

    def _has_place(self, lease: Lease) -> bool:
        """Whether there is a process for a lease, or may be one now."""
        return len(self._slots) < self._limits.max_processes or bool(self._fitting(lease) or self._idle())

    def _make_room_and_spawn(self, lease: Lease) -> _Slot:
        """A new process, in the place of an idle one if need be."""
        if len(self._slots) >= self._limits.max_processes:
            self._evict(self._idle()[0])
        return self._spawn(lease.options, lease.resume)

    def _close(self, session: str) -> None:
        """Drop a session's conversation; a process that can hold no other goes with it."""
        slot = self._live(session)
        if slot is not None:
            del slot.sessions[session]
            if session not in slot.leases:
                self._forget(slot, session)

    def _forget(self, slot: _Slot, session: str) -> None:
        if self._driver.shared:
            self.nursery.start_soon(_tell, slot.runner, Forget(session))
        else:
            self._evict(slot)

    # Processes.

    def _spawn(self, options: Options, resume: str | None = None) -> _Slot:
        self._serial += 1
        limits = self._limits.runner

        def observe(record: Record) -> None:
            slot.spent = slot.spent or isinstance(record, ProcessSpent)
            self._observe(record)

        make = partial(self.make_runner, self._driver, options, self._marker(), limits, observe, resume)
        child = Child(f"{self._driver.name}-{self._serial}", make, limits.kill + 1.0)
        slot = _Slot(child, self._driver.fixed_at_spawn(options, resume))
        self._slots.append(slot)
        self.nursery.start_soon(self._start, slot)
        return slot

    async def _start(self, slot: _Slot) -> None:
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
            self._note_failure(slot.failure)
        self._note_change()

    def _note_end(self, slot: _Slot, child: Child, error: Exception | None) -> None:
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
                    self._note_failure(Refusal(Code.BACKEND_UNAVAILABLE, ended))
                self._refill()
        self._note_change()

    def _remove(self, slot: _Slot, *, died: bool) -> None:
        self._slots.remove(slot)
        slot.dropped = True
        for session in slot.sessions.values():
            self.nursery.start_soon(_tell, session, Released(slot.runner, died))

    def _evict(self, slot: _Slot) -> None:
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

    def _note_failure(self, reason: Refusal) -> None:
        """Remember why a start failed; after too many in a row, stop trying for a while."""
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
        wanted = {self._driver.fixed_at_spawn(options, None): options for options in self._wanted}
        missing = Counter(self._driver.fixed_at_spawn(options, None) for options in self._wanted)
        surplus: list[_Slot] = []
        for slot in self._slots:
            if self._driver.shared and slot.key in missing:
                del missing[slot.key]
            elif slot.spare and missing[slot.key] > 0:
                missing[slot.key] -= 1
            elif slot.spare:
                surplus.append(slot)
        for slot in surplus:
            self._evict(slot)
        for key in missing.elements():
            if len(self._slots) < self._limits.max_processes:
                self._spawn(wanted[key])
        self._report()

    async def _refill_later(self, delay: float) -> None:
        await trio.sleep(delay)
        self._refill()

    def _idle(self) -> list[_Slot]:
        """Processes without a turn in hand, the least recently used first."""
        return sorted((slot for slot in self._slots if not slot.leases), key=lambda slot: slot.idle_since)

    def _kept(self, slot: _Slot) -> bool:
        """Whether an idle process is a spare by right."""
        if not self._driver.shared:
            return slot.spare
        return any(self._driver.fixed_at_spawn(options, None) == slot.key for options in self._wanted)

    def _evict_surplus(self, slot: _Slot) -> None:
        """Hold to the bounds on live conversations and on idle processes."""
        while len(slot.sessions) > self._limits.max_conversations:
            oldest = next((session for session in slot.sessions if session not in slot.leases), None)
            if oldest is None:
                break
            released = Released(slot.runner, died=False)
            self.nursery.start_soon(_tell, slot.sessions.pop(oldest), released)
            self.nursery.start_soon(_tell, slot.runner, Forget(oldest))
        idle = [other for other in self._idle() if not self._kept(other)]
        for oldest_slot in idle[: max(len(idle) - self._limits.max_idle, 0)]:
            self._evict(oldest_slot)

    async def _evict_expired(self) -> None:
        """End idle processes when their time is up."""
        while True:
            now = trio.current_time()
            expiries = {
                slot: slot.idle_since + self._limits.idle_ttl for slot in self._idle() if not self._kept(slot)
            }
            for slot, expiry in expiries.items():
                if expiry <= now:
                    self._evict(slot)
            await trio.sleep_until(
                min((at for at in expiries.values() if at > now), default=now + self._limits.idle_ttl)
            )

    # What others see.

    def _count_waiting(self, change: int) -> None:
        self._waiting += change
        self._report()

    def _status(self) -> PoolStatus:
        busy = sum(1 for slot in self._slots if slot.leases)
        reason = ""
        if self._reason is not None:
            reason = self._reason.message
        elif self._login is not None:
            reason = self._login.message
        return PoolStatus(not reason, reason, len(self._slots) - busy, busy)

    def _note_change(self) -> None:
        self._changed.announce()
        self._report()

    def _report(self) -> None:
        busy = sum(1 for slot in self._slots if slot.leases)
        spare = sum(1 for slot in self._slots if slot.spare)
        idle = len(self._slots) - busy - spare
        self._observe(PoolLevel(self._driver.name, busy, idle, spare, self._waiting))


async def _tell(ref: Ref, message: Tell) -> None:
    """Tell an actor that may be gone by now."""
    with suppress(ActorDied):
        await ref.tell(message)
