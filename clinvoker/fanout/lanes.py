"""Many tasks at once, in the order they were given, and all stopped when one fails if that is asked for."""

from collections.abc import Awaitable, Callable, Sequence

import trio

from clinvoker.fanout.task import Task


async def run_all(
    tasks: Sequence[Task], run: Callable[[Task], Awaitable[None]], *, at_once: int, fail_fast: bool = False
) -> None:
    """Run the tasks that can be begun, `at_once` at a time."""
    lanes = trio.CapacityLimiter(at_once)
    async with trio.open_nursery() as nursery:

        async def in_lane(task: Task) -> None:
            try:
                await run(task)
            finally:
                lanes.release_on_behalf_of(task)
            if fail_fast and task.status == "failed":
                nursery.cancel_scope.cancel()

        for task in tasks:
            if task.ready is not None:
                await lanes.acquire_on_behalf_of(task)
                nursery.start_soon(in_lane, task)
