"""The processes of a pool as it sees them: what each is used for, and who may have which. Decisions only, no I/O."""

from collections import Counter, OrderedDict, deque
from collections.abc import Hashable, Iterator

import trio

from actors.driver import Driver
from actors.errors import Refusal
from actors.lease import Lease, PoolLimits
from actors.mailbox import Ref
from actors.messages import Options
from actors.supervisor import Child


class Slot:
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
        """The runner's address."""
        return self.child.mailbox.ref

    @property
    def spare(self) -> bool:
        """Whether nobody has used it yet."""
        return not self.used and not self.leases


class Slots:
    """All slots of a pool, and the options that spares are kept for."""

    def __init__(self, driver: Driver, limits: PoolLimits, default: Options) -> None:
        self._driver = driver
        self._limits = limits
        self._slots: list[Slot] = []
        self._default = default
        self._wanted = deque([default] * limits.spares, maxlen=limits.spares)
        """The options of the last leases that got a process: what was asked for is asked for again."""

    def __iter__(self) -> Iterator[Slot]:
        return iter(list(self._slots))

    def __len__(self) -> int:
        return len(self._slots)

    @property
    def full(self) -> bool:
        """Whether there may be no further process."""
        return len(self._slots) >= self._limits.max_processes

    def add(self, slot: Slot) -> None:
        """Take in a slot."""
        self._slots.append(slot)

    def remove(self, slot: Slot) -> None:
        """Give up a slot."""
        self._slots.remove(slot)
        slot.dropped = True

    def want(self, options: Options) -> None:
        """Note which options are in use: spares follow them."""
        self._wanted.append(options)

    def is_default(self, slot: Slot) -> bool:
        """Whether it was started as the backend is configured, and not as some caller would have it."""
        return slot.key == self._driver.fixed_at_spawn(self._default, None)

    def unwant(self, slot: Slot) -> None:
        """Note that spares like this one do not start now: default ones take their place."""
        for place, options in enumerate(self._wanted):
            if self._driver.fixed_at_spawn(options, None) == slot.key:
                self._wanted[place] = self._default

    def live(self, session: str) -> Slot | None:
        """The slot that holds the session's conversation."""
        return next((slot for slot in self._slots if session in slot.sessions and not slot.spent), None)

    def fitting(self, lease: Lease) -> Slot | None:
        """A process that can take one more conversation, the readiest first."""
        key = self._driver.fixed_at_spawn(lease.options, lease.resume)
        fitting = [
            slot
            for slot in self._slots
            if slot.key == key and not (slot.failure or slot.spent) and (self._driver.shared or slot.spare)
        ]
        return min(fitting, key=lambda slot: (not slot.up.is_set(), slot.born), default=None)

    def idle(self) -> list[Slot]:
        """Processes without a turn in hand, the least recently used first."""
        return sorted((slot for slot in self._slots if not slot.leases), key=lambda slot: slot.idle_since)

    def surplus_idle(self) -> list[Slot]:
        """Idle processes beyond the bound, spares aside."""
        idle = [slot for slot in self.idle() if not self._kept(slot)]
        return idle[: max(len(idle) - self._limits.max_idle, 0)]

    def expiries(self) -> dict[Slot, float]:
        """When each idle process is to end, spares aside."""
        return {slot: slot.idle_since + self._limits.idle_ttl for slot in self.idle() if not self._kept(slot)}

    def surplus_session(self, slot: Slot) -> str | None:
        """The longest unused conversation of a process that holds too many; None if there is none to give up."""
        if len(slot.sessions) <= self._limits.max_conversations:
            return None
        return next((session for session in slot.sessions if session not in slot.leases), None)

    def plan_spares(self) -> tuple[list[Slot], list[Options]]:
        """The spares that nobody would ask for now, and the options of those that are missing."""
        wanted = {self._driver.fixed_at_spawn(options, None): options for options in self._wanted}
        missing = Counter(self._driver.fixed_at_spawn(options, None) for options in self._wanted)
        surplus: list[Slot] = []
        for slot in self._slots:
            if self._driver.shared and slot.key in missing:
                del missing[slot.key]
            elif slot.spare and missing[slot.key] > 0:
                missing[slot.key] -= 1
            elif slot.spare:
                surplus.append(slot)
        return surplus, [wanted[key] for key in missing.elements()]

    def levels(self) -> tuple[int, int, int]:
        """How many are busy, idle and spare."""
        busy = sum(1 for slot in self._slots if slot.leases)
        spare = sum(1 for slot in self._slots if slot.spare)
        return busy, len(self._slots) - busy - spare, spare

    def _kept(self, slot: Slot) -> bool:
        """Whether an idle process is a spare by right."""
        if not self._driver.shared:
            return slot.spare
        return any(self._driver.fixed_at_spawn(options, None) == slot.key for options in self._wanted)
