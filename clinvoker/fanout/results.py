"""What comes of a fan-out, as its last event and its JSON answer have it (contract, section 3)."""

from typing import TypeVar

import msgspec
from msgspec import UNSET, Struct, UnsetType

from actors.messages import Complete, Failed, Usage
from clinvoker.errors import Body, body_of
from clinvoker.fanout.task import Status, Task
from clinvoker.worktrees import Checked


class TurnResult(Struct, frozen=True, kw_only=True):
    """What became of one task. Times in milliseconds; `first_token_ms` is None if there was no text.

    `began` tells whether its agent has accepted it: of what was cancelled, some never began.
    """

    status: Status
    began: bool
    session_id: str
    backend: str
    model: str
    exit_code: int
    duration_ms: int
    first_token_ms: int | None
    output: str
    token_usage: Usage
    stop_reason: str | UnsetType = UNSET
    denied: tuple[str, ...] | UnsetType = UNSET
    error: Body | UnsetType = UNSET
    branch: str | UnsetType = UNSET
    kept: bool | UnsetType = UNSET
    """Whether the branch is still there, with what was changed."""
    diff: str | UnsetType = UNSET
    diff_truncated: bool | UnsetType = UNSET
    files_changed: tuple[str, ...] | UnsetType = UNSET
    check: Checked | UnsetType = UNSET


class TaskResult(TurnResult, frozen=True, kw_only=True):
    """One of many at once; `task` counts from 0, as in events."""

    task: int


class StepResult(TurnResult, frozen=True, kw_only=True):
    """One of a chain; `step` counts from 1."""

    step: int
    name: str


class ParallelResult(Struct, frozen=True, kw_only=True):
    """`POST /parallel`; `results` in the order of the tasks."""

    run_id: str
    total_tasks: int
    completed: int
    failed: int
    cancelled: int
    total_duration_ms: int
    results: list[TaskResult]


class ChainResult(Struct, frozen=True, kw_only=True):
    """`POST /chain`; `failed_step` is the first, counted from 1."""

    run_id: str
    total_steps: int
    completed_steps: int
    failed_step: int | None
    total_duration_ms: int
    results: list[StepResult]


class Similarity(Struct, frozen=True):
    """How much two answers are alike: 0 to 1."""

    backends: tuple[str, str]
    similarity: float


class Agreement(Struct, frozen=True):
    """How much the answers are alike; `mean` is None with fewer than two."""

    mean: float | None
    pairs: list[Similarity]


class Rank(Struct, frozen=True):
    """A place in the judge's ranking; 1 is the best."""

    rank: int
    backend: str
    task: int
    reason: str


class Judgement(Struct, frozen=True, kw_only=True):
    """What the judge said; `shown` are the backends in the order in which their answers were shown, nameless."""

    backend: str
    session_id: str
    ranking: list[Rank]
    shown: list[str]
    duration_ms: int
    token_usage: Usage
    error: Body | UnsetType = UNSET


class CompareResult(Struct, frozen=True, kw_only=True):
    """`POST /compare`; `results` in the order of `backends`."""

    run_id: str
    prompt: str
    backends: list[str]
    results: list[TaskResult]
    total_duration_ms: int
    agreement: Agreement
    judge: Judgement | UnsetType = UNSET


R = TypeVar("R", bound=TurnResult)


def result_of(task: Task, kind: type[R], /, **place: int | str) -> R:
    """What became of a task; `place` are the fields that say which it was."""
    record, last = task.record, task.outcome
    complete = record.outcome if record is not None and isinstance(record.outcome, Complete) else None
    model = record.start.model if record is not None and record.start is not None else task.options.model
    isolated = task.branch != ""
    changed = task.changed
    first = None if record is None else record.first_text
    return kind(
        status=task.status,
        began=task.began,
        session_id="" if task.ready is None else task.ready.record.id,
        backend=task.backend,
        model=model,
        exit_code=last.exit_code if isinstance(last, Complete) else 1,
        duration_ms=_duration(task),
        first_token_ms=None if first is None else round(first * 1000),
        output=task.output,
        token_usage=Usage() if complete is None else complete.token_usage,
        stop_reason=UNSET if complete is None else complete.stop_reason,
        denied=(UNSET if complete is None else complete.denied) or UNSET,
        error=body_of(last) if isinstance(last, Failed) else UNSET,
        branch=task.branch if isolated else UNSET,
        kept=task.kept if isolated else UNSET,
        diff=UNSET if changed is None else changed.diff,
        diff_truncated=(UNSET if changed is None else changed.truncated) or UNSET,
        files_changed=UNSET if changed is None else changed.files_changed,
        check=UNSET if task.checked is None else task.checked,
        **place,
    )


def _duration(task: Task) -> int:
    if task.record is None:
        return 0
    outcome = task.record.outcome
    return outcome.duration_ms if isinstance(outcome, Complete) else round(task.record.took * 1000)


def usage_of(tasks: list[Task]) -> Usage:
    """What all tasks took together; the cost is known if it is of all that have ended well."""
    outcomes = [task.record.outcome for task in tasks if task.record is not None]
    usages = [outcome.token_usage for outcome in outcomes if isinstance(outcome, Complete)]
    costs = [usage.cost_usd for usage in usages]
    known = [cost for cost in costs if cost is not None]
    return Usage(
        sum(usage.input_tokens for usage in usages),
        sum(usage.output_tokens for usage in usages),
        sum(usage.cached_tokens for usage in usages),
        sum(usage.reasoning_tokens for usage in usages),
        sum(known) if known and len(known) == len(costs) else None,
    )


def end_of(tasks: list[Task]) -> Complete:
    """The last event of a fan-out that came to its end; the exit code is 1 unless all went well."""
    well = all(task.status == "completed" for task in tasks)
    return Complete("end_turn", usage_of(tasks), exit_code=0 if well else 1)


def raw(result: Struct) -> msgspec.Raw:
    """A result as events carry it."""
    return msgspec.Raw(msgspec.json.encode(result))
