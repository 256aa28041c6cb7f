"""How much of the daemon all fan-outs together may take, so that a single prompt never waits for one to end.

Of the places for runs, a quarter stays free of their tasks; of an agent's processes that hold one conversation each, one
does. Tasks beyond that wait here, not in the lines in which single prompts stand.
"""

from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager

import trio

from clinvoker.backends.choice import Backend


class Shares:
    """The places of tasks, for `concurrent` runs in all."""

    def __init__(self, concurrent: int, backends: Mapping[str, Backend]) -> None:
        self._all = trio.CapacityLimiter(max(1, concurrent * 3 // 4))
        self._of = {
            name: trio.CapacityLimiter(max(1, backend.settings.max_processes - 1))
            for name, backend in backends.items()
            if not backend.driver.shared
        }

    @asynccontextmanager
    async def hold(self, backend: str) -> AsyncGenerator[None, None]:
        """Hold a place for a task of a backend."""
        # In this order: who waits for a busy agent keeps no place from the tasks of others.
        if backend in self._of:
            async with self._of[backend], self._all:
                yield
        else:
            async with self._all:
                yield
