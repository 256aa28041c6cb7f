"""Waiting for a condition over state that changes, without ever missing the change."""

from collections.abc import Callable

import trio


class Change:
    """Wakes everyone who waits for a condition, whenever the state that the condition looks at has changed."""

    def __init__(self) -> None:
        self._waiting = trio.lowlevel.ParkingLot()

    def announce(self) -> None:
        """The state has changed."""
        if self._waiting:
            self._waiting.unpark_all()

    async def wait_until(self, condition: Callable[[], object]) -> None:
        """Wait until `condition()` is true; it may have changed again when another task ran first."""
        while not condition():
            await self._waiting.park()
