"""What starts a fan-out: a call becomes tasks, checked as single prompts are, and a job for a run."""

from actors.errors import Code, Refusal
from actors.messages import Options
from clinvoker.backends.choice import Backend
from clinvoker.calls import Job
from clinvoker.fanout import chain, compare, parallel
from clinvoker.fanout.calls import ChainCall, CompareCall, FanoutCall, ParallelCall
from clinvoker.fanout.floor import Floor
from clinvoker.fanout.task import Task
from clinvoker.turns import Turns
from clinvoker.worktrees import Worktrees


class Fanouts:
    """Makes fan-outs ready. `worktrees` may be None where nothing is to be isolated."""

    def __init__(self, turns: Turns, worktrees: Worktrees | None) -> None:
        self._floor = Floor(turns, worktrees)

    async def plan(self, call: FanoutCall) -> list[tuple[Backend, Options]]:
        """Check a call and complete the options of its tasks, in order. Raises `Refusal` naming the place at fault."""
        tasks = await self._tasks(call)
        backends = self._floor.turns.backends
        return [(backends[task.backend], task.options) for task in tasks if task.ready is not None]

    async def prepare(self, call: FanoutCall) -> Job:
        """Check a call, and say what its run is to do. Raises `Refusal` naming the place at fault."""
        tasks = await self._tasks(call)
        match call:
            case ParallelCall():
                return await parallel.prepare(self._floor, call, tasks)
            case ChainCall():
                return chain.prepare(self._floor, call, tasks)
            case CompareCall():
                return await compare.prepare(self._floor, call, tasks)

    async def _tasks(self, call: FanoutCall) -> list[Task]:
        match call:
            case ParallelCall(tasks=calls):
                self._count(len(calls), "tasks")
                return await parallel.make_tasks(self._floor, call)
            case ChainCall(steps=steps):
                self._count(len(steps), "steps")
                return await chain.make_tasks(self._floor, call)
            case CompareCall():
                return await compare.make_tasks(self._floor, call)

    def _count(self, number: int, param: str) -> None:
        most = self._floor.settings.max_tasks
        if not 0 < number <= most:
            raise Refusal(Code.INVALID_REQUEST, f"{param} must be 1 to {most}, not {number}", param=param)
