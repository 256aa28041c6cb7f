"""Where tasks are run: each takes its turn when there is a share for it, in a worktree of its own if need be."""

from collections.abc import Sequence
from contextlib import nullcontext

import trio
from msgspec.structs import replace

from actors.errors import Code, Refusal, within
from actors.messages import Failed, as_failed
from actors.recorder import Recorder
from clinvoker.calls import Place
from clinvoker.config.settings import ParallelSettings
from clinvoker.fanout.calls import Isolation
from clinvoker.fanout.shares import Shares
from clinvoker.fanout.task import Task
from clinvoker.logs import get_logger
from clinvoker.turns import Turns
from clinvoker.worktrees import Snapshot, Worktrees

_log = get_logger("clinvoker.fanout")

STOPPED = Failed(Code.CANCELLED, "the task was stopped before its end")

MOST_DIFFS = 16 * 1024 * 1024
"""Bytes of all diffs of a run."""

ENDING = 1.0
"""Seconds that a session in a worktree gets to hear of its end."""


class Floor:
    """Runs tasks."""

    def __init__(self, turns: Turns, worktrees: Worktrees | None) -> None:
        self.turns = turns
        self._worktrees = worktrees
        self._shares = Shares(turns.settings.server.max_concurrent_runs, turns.backends)

    @property
    def settings(self) -> ParallelSettings:
        """What the configuration says of fan-outs."""
        return self.turns.settings.parallel

    async def isolate(self, tasks: Sequence[Task], field: str) -> None:
        """Take snapshots of the checkouts that tasks are to have copies of; all tasks of one see the same.

        Raises `Refusal` naming the task, by `field` with its number for `{}`, if any.
        """
        taken: dict[str, Snapshot] = {}
        for task in tasks:
            workdir = task.options.workdir
            if task.ready is None:
                continue
            with within(field.format(task.number)) if field else nullcontext():
                if task.ready.call.session_id:
                    message = "a session's directory is fixed: what is isolated cannot go on with one"
                    raise Refusal(Code.INVALID_REQUEST, message, param="session_id")
                if not workdir:
                    message = "workdir is required: isolation is of a git checkout"
                    raise Refusal(Code.INVALID_REQUEST, message, param="workdir")
                if self._worktrees is None:
                    raise Refusal(Code.UNSUPPORTED, "there is no place for worktrees", param="isolate")
                if workdir not in taken:
                    taken[workdir] = await self._worktrees.snapshot(workdir)
                    self.turns.resolve(taken[workdir].top)
            task.snapshot = taken[workdir]
            task.together = len(tasks)

    async def run(
        self, task: Task, recorder: Recorder, place: Place, isolation: Isolation | None = None
    ) -> None:
        """Run a task to its end, which is told in the run's log and in `task`. Raises nothing but `Cancelled`."""
        ready = task.ready
        if ready is None:
            return
        record = task.record = recorder.branch(task.number, task.backend, ready.record.id)
        if ready.kept and place.journal is not None:
            place.journal.expect(task.number, ready.record.id, task.prompt.text)
        try:
            async with self._shares.hold(task.backend):
                if isolation is None:
                    record.on_end = task.settled.set
                    await self.turns.take(record, ready, task.prompt, place.run, task.options)
                else:
                    await self._run_isolated(task, record, place, isolation)
        except Refusal as refusal:
            task.fail(as_failed(refusal))
        except Exception as error:  # noqa: BLE001 - whatever broke ends this task only
            _log.error("a task failed inside the daemon", run_id=record.identity.run_id, exc_info=error)
            task.fail(Failed(Code.INTERNAL, "the task failed inside the daemon; its log says more"))
        finally:
            # Every turn that has begun is told an end.
            if task.began:
                record.record([STOPPED])
            task.settled.set()

    async def _run_isolated(self, task: Task, record: Recorder, place: Place, isolation: Isolation) -> None:
        ready, snapshot, worktrees = task.ready, task.snapshot, self._worktrees
        if ready is None or snapshot is None or worktrees is None:
            return
        async with worktrees.open(snapshot, f"{record.identity.run_id}-{task.number}") as worktree:
            task.branch = worktree.branch
            try:
                options = replace(task.options, workdir=worktree.workdir)
                try:
                    await self.turns.take(record, ready, task.prompt, place.run, options)
                except Refusal as refusal:
                    # What it has done until then is told all the same.
                    task.fail(as_failed(refusal))
                task.changed = await worktree.change(MOST_DIFFS // task.together)
                if isolation.check and task.status == "completed":
                    task.checked = await worktree.check(isolation.check, self.settings.check_timeout_secs)
                if isolation.keep:
                    await worktree.keep()
                    task.kept = True
            finally:
                # Its process stands in a directory that is about to go.
                with trio.move_on_after(ENDING, shield=True):
                    await self.turns.end(ready.record.id)
