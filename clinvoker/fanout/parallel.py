"""Many turns at once."""

from collections.abc import Sequence

from actors.errors import Code, Refusal, within
from actors.recorder import Recorder
from clinvoker.calls import Job, Place
from clinvoker.fanout.calls import ParallelCall
from clinvoker.fanout.floor import Floor
from clinvoker.fanout.lanes import run_all
from clinvoker.fanout.results import ParallelResult, TaskResult, end_of, raw, result_of
from clinvoker.fanout.task import Task

KIND = "parallel"


async def make_tasks(floor: Floor, call: ParallelCall) -> list[Task]:
    """The tasks of a call. Raises `Refusal` naming the place at fault (`tasks[3].workdir`)."""
    at_once(floor, call)
    tasks: list[Task] = []
    for number, one in enumerate(call.tasks):
        with within(f"tasks[{number}]"):
            tasks.append(Task(number, await floor.turns.prepare(one)))
    check_kept_alike(tasks, "tasks[{}].ephemeral")
    return tasks


async def prepare(floor: Floor, call: ParallelCall, tasks: list[Task]) -> Job:
    """What the run is to do. Raises `Refusal` for what cannot be isolated."""
    lanes = at_once(floor, call)
    fail_fast = floor.settings.fail_fast if call.fail_fast is None else call.fail_fast
    if call.isolation is not None:
        await floor.isolate(tasks, "tasks[{}]")

    async def work(recorder: Recorder, place: Place) -> None:
        recorder.summary = lambda: raw(_result(recorder, tasks))

        async def run(task: Task) -> None:
            await floor.run(task, recorder, place, call.isolation)

        async def end() -> None:
            recorder.record([end_of(tasks)])

        await run_all(tasks, run, end, at_once=lanes, fail_fast=fail_fast)

    return Job(KIND, KIND, work, kept=kept(tasks))


def at_once(floor: Floor, call: ParallelCall) -> int:
    """How many tasks run at the same time. Raises `Refusal` if that is more than is allowed."""
    settings = floor.settings
    if call.max_parallel is None:
        return min(settings.max_workers, settings.max_parallel)
    if call.max_parallel > settings.max_parallel:
        message = f"max_parallel must be at most {settings.max_parallel}"
        raise Refusal(Code.INVALID_REQUEST, message, param="max_parallel")
    return call.max_parallel


def check_kept_alike(tasks: Sequence[Task], field: str) -> None:
    """Raise `Refusal` if some tasks are ephemeral and others are not: a run's events are kept whole or not at all."""
    ephemeral = [task.options.ephemeral for task in tasks]
    if any(ephemeral) and not all(ephemeral):
        param = field.format(ephemeral.index(True))
        message = f"{param}: either everything in one run is ephemeral or nothing is"
        raise Refusal(Code.INVALID_REQUEST, message, param=param)


def kept(tasks: Sequence[Task]) -> bool:
    """Whether the run is to be kept."""
    return not all(task.options.ephemeral for task in tasks)


def _result(recorder: Recorder, tasks: list[Task]) -> ParallelResult:
    states = [task.status for task in tasks]
    return ParallelResult(
        run_id=recorder.identity.run_id,
        total_tasks=len(tasks),
        completed=states.count("completed"),
        failed=states.count("failed"),
        cancelled=states.count("cancelled"),
        total_duration_ms=round(recorder.elapsed * 1000),
        results=[result_of(task, TaskResult, task=task.number) for task in tasks],
    )
