"""Turns in order, each of which may speak of what the ones before it answered."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import trio
from msgspec.structs import asdict, replace

from actors.errors import Code, Refusal, within
from actors.marker import Instance
from actors.messages import Options, as_failed
from actors.recorder import Recorder
from actors.scratch import scratch_directory
from clinvoker.backends.choice import check, with_defaults
from clinvoker.calls import Job, Place, PromptCall
from clinvoker.fanout import templates
from clinvoker.fanout.calls import ChainCall
from clinvoker.fanout.floor import ENDING, Floor
from clinvoker.fanout.results import ChainResult, StepResult, end_of, raw, result_of
from clinvoker.fanout.task import Task
from clinvoker.keeping import PassingMemory
from clinvoker.turns import Ready

KIND = "chain"


async def make_tasks(floor: Floor, call: ChainCall) -> list[Task]:
    """The steps of a call as tasks. Raises `Refusal` naming the place at fault (`steps[1].prompt`)."""
    _check_words(call)
    tasks: list[Task] = []
    for number, step in enumerate(call.steps):
        with within(f"steps[{number}]"):
            before = tasks[-1].ready if tasks else None
            tasks.append(Task(number, await _ready(floor, call, step.call, before)))
    _check_kept(call, tasks)
    return tasks


def prepare(floor: Floor, call: ChainCall, tasks: list[Task]) -> Job:
    """What the run is to do."""

    async def work(recorder: Recorder, place: Place) -> None:
        recorder.summary = lambda: raw(_result(recorder, call, tasks))
        async with _directory(call, tasks), _passing_sessions(floor, tasks):
            await _run_steps(floor, call, tasks, recorder, place)
        recorder.record([end_of(tasks)])

    return Job(KIND, KIND, work, kept=not all(step.call.options.ephemeral for step in call.steps))


async def _run_steps(
    floor: Floor, call: ChainCall, tasks: list[Task], recorder: Recorder, place: Place
) -> None:
    most = floor.turns.settings.server.max_request_body_bytes
    values = {"input": call.input}
    for step, task in zip(call.steps, tasks, strict=True):
        try:
            text = templates.fill(task.prompt.text, values, most)
        except Refusal as refusal:
            task.fail(as_failed(refusal))
        else:
            task.prompt = replace(task.prompt, text=text)
            await floor.run(task, recorder, place)
        if task.status != "completed" and call.stop_on_failure:
            return
        # No agent can be told a NUL, though it may say one.
        values["previous"] = values[f"steps.{step.name}.output"] = task.output.replace("\0", "")


# Making ready.


def _check_words(call: ChainCall) -> None:
    known = {"input"}
    for number, step in enumerate(call.steps):
        templates.check(step.call.prompt.text, known, f"steps[{number}].prompt")
        known.add("previous")
        word = f"steps.{step.name}.output"
        if step.name and word in known:
            param = f"steps[{number}].name"
            raise Refusal(Code.INVALID_REQUEST, f"{param}: two steps are named {step.name}", param=param)
        if step.name:
            known.add(word)


def _check_kept(call: ChainCall, tasks: list[Task]) -> None:
    """What is not to be kept must not be kept by the chain."""
    ephemeral = [step.call.options.ephemeral for step in call.steps]
    if any(ephemeral) and (call.persist_sessions or not all(ephemeral)):
        param = f"steps[{ephemeral.index(True)}].ephemeral"
        message = f"{param}: either all steps are ephemeral, and no session is kept, or none is"
        raise Refusal(Code.INVALID_REQUEST, message, param=param)
    if call.pass_working_dir and call.persist_sessions and any(_needs_directory(task) for task in tasks):
        message = "steps[0].workdir is required: kept sessions need a directory that stays"
        raise Refusal(Code.INVALID_REQUEST, message, param="steps[0].workdir")


async def _ready(floor: Floor, call: ChainCall, asked: PromptCall, before: Ready | None) -> Ready:
    own = asked
    if call.pass_working_dir and before is not None and not (asked.session_id or asked.options.workdir):
        asked = replace(asked, options=replace(asked.options, workdir=before.record.options.workdir))
    backend = asked.backend or floor.turns.settings.default_backend
    continues = call.continue_session and before is not None and before.record.backend == backend
    if continues and before is not None and not asked.session_id:
        return _continued(floor, own, asked, before)
    ready = await floor.turns.prepare(asked)
    if call.persist_sessions or asked.session_id:
        return ready
    # A conversation of one turn its agent need not keep at all; of one with more it does, until the chain has ended.
    options = replace(ready.record.options, ephemeral=not call.continue_session)
    memory = PassingMemory() if call.continue_session else None
    return replace(ready, record=replace(ready.record, options=options), memory=memory)


def _continued(floor: Floor, own: PromptCall, asked: PromptCall, before: Ready) -> Ready:
    """One more turn of the conversation of the step before, whose options hold."""
    backend = floor.turns.backends[before.record.backend]
    held = before.record.options
    if own.options != Options():
        wanted = asdict(replace(with_defaults(asked.options, backend.settings), ephemeral=held.ephemeral))
        for field, value in asdict(held).items():
            if wanted[field] != value:
                message = f"{field} differs from that of the conversation which this step continues"
                raise Refusal(Code.INVALID_REQUEST, message, param=field)
    check(backend, held, asked.prompt)
    return replace(before, call=asked)


# What the steps share.


def _needs_directory(task: Task) -> bool:
    return not (task.options.workdir or (task.ready is not None and task.ready.call.session_id))


@asynccontextmanager
async def _directory(call: ChainCall, tasks: list[Task]) -> AsyncGenerator[None, None]:
    """A directory for steps that pass theirs on and were told none."""
    without = [task for task in tasks if _needs_directory(task)] if call.pass_working_dir else []
    if not without:
        yield
        return
    async with scratch_directory(Instance.current().marker("chain")) as directory:
        for task in without:
            task.options = replace(task.options, workdir=directory)
        yield


@asynccontextmanager
async def _passing_sessions(floor: Floor, tasks: list[Task]) -> AsyncGenerator[None, None]:
    """Sessions that are not kept are forgotten at the end, by their agents as well."""
    try:
        yield
    finally:
        passing = {
            task.ready.record.id: task.ready
            for task in tasks
            if task.ready is not None
            and isinstance(task.ready.memory, PassingMemory)
            and task.record is not None
        }
        with trio.move_on_after(ENDING, shield=True):
            for ready in passing.values():
                await floor.turns.forget(ready)


def _result(recorder: Recorder, call: ChainCall, tasks: list[Task]) -> ChainResult:
    bad = [task.number + 1 for task in tasks if task.status == "failed"]
    return ChainResult(
        run_id=recorder.identity.run_id,
        total_steps=len(tasks),
        completed_steps=sum(task.status == "completed" for task in tasks),
        failed_step=bad[0] if bad else None,
        total_duration_ms=round(recorder.elapsed * 1000),
        results=[
            result_of(task, StepResult, step=task.number + 1, name=step.name)
            for step, task in zip(call.steps, tasks, strict=True)
        ],
    )
