"""Who runs next: a bounded number of places, and a bounded line before them that nobody can fill alone.

A free place goes to the waiting caller with the fewest runs, of those to the one that has waited longest for a turn; each
caller's own runs go first come, first served. When the line is full, a newcomer takes the last place in it of whoever holds
most, if that is two or more above what the newcomer holds; else the newcomer is refused.
"""

from collections import deque
from collections.abc import Callable

import trio

from actors.errors import Code, Refusal

REMEMBERED = 4096
"""Callers of whom it is known when they were served last."""


class Ticket:
    """One run's place, or its wait for one."""

    def __init__(self, caller: str) -> None:
        self.caller = caller
        self.running = False
        self.dropped = False
        self.decided = trio.Event()
        """Set once the run has its place, or has lost its wait."""


class _Holder:
    """What one caller holds."""

    def __init__(self) -> None:
        self.running = 0
        self.waiting: deque[Ticket] = deque()

    @property
    def held(self) -> int:
        return self.running + len(self.waiting)


class Line:
    """The places and the line. `most_of` says how many runs of a caller may be at work at once."""

    def __init__(self, places: int, queue: int, most_of: Callable[[str], float]) -> None:
        self.running = 0
        self.waiting = 0
        self._places, self._queue = places, queue
        self._most_of = most_of
        self._holders: dict[str, _Holder] = {}
        self._serial = 0
        self._served: dict[str, float] = {}
        """When a caller was served last, the longest ago first; also of callers who hold nothing now."""

    def join(self, caller: str) -> Ticket:
        """Take a place, or a wait for one. Raises `Refusal(BUSY)`."""
        holder = self._holders.get(caller) or _Holder()
        if self.running + self.waiting >= self._places + self._queue:
            self._make_room(holder.held)
        self._holders[caller] = holder
        # A newcomer's turn is before that of the caller who was served last, and after everyone else's.
        if caller not in self._served:
            self._note(caller, self._serial - 0.5)
        ticket = Ticket(caller)
        holder.waiting.append(ticket)
        self.waiting += 1
        self.grant()
        return ticket

    def leave(self, ticket: Ticket) -> None:
        """Give back a place, or leave the line."""
        if ticket.dropped:
            return
        holder = self._holders[ticket.caller]
        if ticket.running:
            holder.running -= 1
            self.running -= 1
        else:
            holder.waiting.remove(ticket)
            self.waiting -= 1
        if not holder.held:
            del self._holders[ticket.caller]
        self.grant()

    def is_wanted(self, caller: str) -> bool:
        """Whether a place that this caller has would go to a run that waits."""
        if self.running < self._places:
            return caller in self._holders and bool(self._holders[caller].waiting)
        return self.waiting > 0

    def grant(self) -> None:
        """Give out what places there are."""
        while self.running < self._places and (holder := self._next()) is not None:
            ticket = holder.waiting.popleft()
            self._serial += 1
            self._note(ticket.caller, self._serial)
            holder.running += 1
            self.running += 1
            self.waiting -= 1
            ticket.running = True
            ticket.decided.set()

    def _next(self) -> _Holder | None:
        ready = (
            (holder.running, self._served.get(caller, 0.0), number, holder)
            for number, (caller, holder) in enumerate(self._holders.items())
            if holder.waiting and holder.running < self._most_of(caller)
        )
        return min(ready, default=(None,))[-1]

    def _note(self, caller: str, served: float) -> None:
        self._served.pop(caller, None)
        self._served[caller] = served
        if len(self._served) > REMEMBERED:
            del self._served[next(iter(self._served))]

    def _make_room(self, held: int) -> None:
        """Drop the last that waits of the caller who holds most."""
        waiting = (holder for holder in self._holders.values() if holder.waiting)
        greediest = max(waiting, key=lambda holder: holder.held, default=None)
        if greediest is None or greediest.held <= held + 1:
            raise Refusal(Code.BUSY, "too many runs are waiting already", retry_after=1.0)
        ticket = greediest.waiting.pop()
        self.waiting -= 1
        ticket.dropped = True
        ticket.decided.set()
