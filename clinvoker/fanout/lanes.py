"""Many tasks at once, in the order they were given, and all stopped when one fails if that is asked for."""

from collections.abc import Awaitable, Callable, Sequence

import trio

from clinvoker.fanout.task import Task


async def run_all(
    tasks: Sequence[Task],
    run: Callable[[Task], Awaitable[None]],
    then: Callable[[], Awaitable[None]],
    *,
    at_once: int,
    fail_fast: bool = False,
) -> None:
    """Run the tasks that can be begun, `at_once` at a time, and `then` go on as soon as all are settled.

    That is before their agents are all ready for others, which this waits for at last.
    """
    lanes = trio.CapacityLimiter(at_once)
    scopes = {task: trio.CancelScope() for task in tasks if task.ready is not None}
    starting = trio.CancelScope()
    begun: list[Task] = []
    async with trio.open_nursery() as nursery:

        async def in_lane(task: Task) -> None:
            with scopes[task]:
                try:
                    await run(task)
                finally:
                    lanes.release_on_behalf_of(task)
            if fail_fast and task.status == "failed":
                starting.cancel()
                for scope in scopes.values():
                    scope.cancel()

        with starting:
            for task in scopes:
                await lanes.acquire_on_behalf_of(task)
                begun.append(task)
                nursery.start_soon(in_lane, task)
        for task in begun:
            await task.settled.wait()
        await then()
