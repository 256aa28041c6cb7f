"""The way of a turn's events out of the driver: put one by one in a synchronous parser, taken all at once.

A CLI writes thousands of lines a second. One wake-up per batch instead of one per line is what keeps a long answer
cheap; the bound is what keeps a fast agent from filling the memory.
"""

from actors.change import Change
from actors.messages import Complete, Event, Failed

LIMIT = 4096
"""Events that may wait before the reader of the CLI's output pauses."""


class Outbox:
    """Events of one turn, in order, up to and including the first `Complete` or `Failed`; later ones are dropped."""

    def __init__(self) -> None:
        self._events: list[Event] = []
        self._added = Change()
        self._taken = Change()
        self.ended = False

    def put(self, event: Event) -> None:
        """Add an event. The first terminal one closes the box."""
        if self.ended:
            return
        self._events.append(event)
        self.ended = isinstance(event, Complete | Failed)
        self._added.announce()

    def close(self) -> None:
        """Nobody takes from here any more: whoever waits for room goes on, what is put from now on is dropped."""
        self.ended = True
        self._events.clear()
        self._added.announce()
        self._taken.announce()

    async def take(self) -> list[Event]:
        """Wait for and return everything that is new; an empty list means that the turn has ended."""
        await self._added.wait_until(lambda: self._events or self.ended)
        events, self._events = self._events, []
        self._taken.announce()
        return events

    @property
    def full(self) -> bool:
        """Whether so many events wait here that the agent's output should."""
        return len(self._events) > LIMIT

    async def wait_room(self) -> None:
        """Wait until few enough events wait here."""
        await self._taken.wait_until(lambda: not self.full)

    async def wait_ended(self) -> None:
        """Wait until a terminal event was put."""
        await self._added.wait_until(lambda: self.ended)
