"""One question to many agents: what each says, how soon, for how much, and how far they agree."""

from msgspec import UNSET
from msgspec.structs import replace

from actors.errors import Code, Refusal, within
from actors.messages import Failed, Options, Prompt, as_failed
from actors.recorder import Recorder
from clinvoker.calls import Job, Place
from clinvoker.errors import body_of
from clinvoker.fanout.agreement import agreement
from clinvoker.fanout.calls import CompareCall, Judge
from clinvoker.fanout.floor import Floor
from clinvoker.fanout.judge import Bench
from clinvoker.fanout.lanes import run_all
from clinvoker.fanout.results import (
    Agreement,
    CompareResult,
    Judgement,
    TaskResult,
    end_of,
    raw,
    result_of,
    usage_of,
)
from clinvoker.fanout.task import Task

KIND = "compare"

THE_REQUESTS = {"workdir", "session_id"}
"""Fields that are as wrong for one backend as for all."""


async def make_tasks(floor: Floor, call: CompareCall) -> list[Task]:
    """A task for each backend; what one of them cannot honour is its own failure. Raises `Refusal`."""
    names = call.backends or await _available(floor, call.caller)
    if len(names) > floor.settings.max_tasks:
        message = f"backends must be at most {floor.settings.max_tasks}"
        raise Refusal(Code.INVALID_REQUEST, message, param="backends")
    tasks: list[Task] = []
    for number, name in enumerate(names):
        if name not in floor.turns.backends or name in names[:number]:
            known = ", ".join(sorted(floor.turns.backends))
            why = "is named twice" if name in names[:number] else f"is not configured; there are: {known}"
            param = f"backends[{number}]"
            raise Refusal(Code.INVALID_REQUEST, f"{param}: {name!r} {why}", param=param)
        try:
            tasks.append(Task(number, await floor.turns.prepare(replace(call.call, backend=name))))
        except Refusal as refusal:
            if refusal.param in THE_REQUESTS:
                raise
            tasks.append(Task(number, None, name, as_failed(refusal)))
    return tasks


async def prepare(floor: Floor, call: CompareCall, tasks: list[Task]) -> Job:
    """What the run is to do. Raises `Refusal` for what cannot be isolated, and for a judge that is none."""
    judging = None if call.judge is None else await _judging(floor, call, call.judge, len(tasks))
    if call.isolation is not None:
        await floor.isolate(tasks, "")
    at_once = 1 if call.sequential else floor.settings.max_parallel

    async def work(recorder: Recorder, place: Place) -> None:
        course = _Course(recorder, call, tasks, judging)
        recorder.summary = lambda: raw(course.result())

        async def run(task: Task) -> None:
            await floor.run(task, recorder, place, call.isolation)

        async def end() -> None:
            course.agreement = await agreement(tasks)
            if call.judge is not None and judging is not None:
                await course.judge(floor, call.judge, judging, place)
            last = end_of(tasks)
            if judging is not None:
                last = replace(last, token_usage=usage_of([*tasks, judging]))
            recorder.record([last])

        await run_all(tasks, run, end, at_once=at_once)

    return Job(KIND, KIND, work, kept=not call.call.options.ephemeral)


class _Course:
    """A comparison, as far as it has come."""

    def __init__(
        self, recorder: Recorder, call: CompareCall, tasks: list[Task], judging: Task | None
    ) -> None:
        self.agreement = Agreement(None, [])
        self._recorder = recorder
        self._call = call
        self._tasks = tasks
        self._judging = judging
        self._bench: Bench | None = None

    async def judge(self, floor: Floor, asked: Judge, task: Task, place: Place) -> None:
        """Have the answers ranked, if there are two."""
        self._bench = bench = Bench(self._tasks)
        if len(bench.shown) < 2:  # noqa: PLR2004 - nothing to rank
            task.fail(Failed(Code.INVALID_REQUEST, "there are not two answers to rank"))
            return
        can = floor.turns.backends[task.backend].driver.capabilities
        task.prompt = bench.prompt(self._call.call.prompt.text, asked.criteria, schema=can.schema)
        await floor.run(task, self._recorder, place)

    def result(self) -> CompareResult:
        """What has come of it."""
        return CompareResult(
            run_id=self._recorder.identity.run_id,
            prompt=self._call.call.prompt.text,
            backends=[task.backend for task in self._tasks],
            results=[result_of(task, TaskResult, task=task.number) for task in self._tasks],
            total_duration_ms=round(self._recorder.elapsed * 1000),
            agreement=self.agreement,
            judge=UNSET if self._judging is None else self._judgement(self._judging),
        )

    def _judgement(self, task: Task) -> Judgement:
        if self._bench is not None and task.outcome is not None:
            return self._bench.judgement(task)
        unasked = Failed(Code.CANCELLED, "the judge was not asked, or had not answered")
        told = Bench([]).judgement(task)
        return replace(told, error=body_of(unasked))


async def _available(floor: Floor, caller: str) -> tuple[str, ...]:
    """All backends that the caller may use and that could answer now."""
    allowed = [name for name in floor.turns.backends if floor.turns.policy.may_use(caller, name)]
    names = [name for name in allowed if not await floor.turns.why_unavailable(name)]
    if not names:
        message = "no backend is available; GET /api/v1/backends says why"
        raise Refusal(Code.BACKEND_UNAVAILABLE, message)
    return tuple(names)


async def _judging(floor: Floor, call: CompareCall, judge: Judge, number: int) -> Task:
    """The judge's own turn: in no directory of the caller's, with a prompt that is yet to come."""
    options = Options(model=judge.model, ephemeral=call.call.options.ephemeral)
    asked = replace(
        call.call, prompt=Prompt("-"), options=options, backend=judge.backend, metadata={}, scratch=True
    )
    with within("judge"):
        return Task(number, await floor.turns.prepare(asked))
