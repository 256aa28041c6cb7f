"""What the surfaces call: they turn a request into a `PromptCall`, start a run here, and follow its events.

All of them start runs in this one way; they differ only in how a request is read and how an event is written.
"""

import time
from contextlib import suppress

import trio

from actors.errors import ActorDied, Code, Refusal
from actors.mailbox import Ref
from actors.messages import Options
from actors.recorder import Identity, Recorder, RunLimits
from actors.run import Cancel, Follow, Identify, Run, new_id
from actors.supervisor import Find, Spawn
from actors.telemetry import Observer
from clinvoker.backends.choice import Backend
from clinvoker.calls import Job, Place, PromptCall, Started
from clinvoker.claims import Claim, Claims, check_same
from clinvoker.config import Settings
from clinvoker.fanout import FanoutCall, Fanouts
from clinvoker.follower import Follower
from clinvoker.keeping import RunJournal
from clinvoker.store import RunRecord, SessionRecord, StoreClient
from clinvoker.tracing import OFF, Tracing
from clinvoker.turns import Ready, Turns
from clinvoker.worktrees import Worktrees

__all__ = ["PromptCall", "Service", "Started"]


class Service:
    """Starts and finds runs and sessions."""

    def __init__(
        self,
        settings: Settings,
        turns: Turns,
        *,
        store: StoreClient,
        runs: Ref,
        observe: Observer,
        worktrees: Worktrees | None = None,
        tracing: Tracing = OFF,
    ) -> None:
        self.turns = turns
        self.backends = turns.backends
        self.pools = turns.pools
        self.sessions = turns.sessions
        self.runs = runs
        self.store = store
        self.stopping = False
        """The daemon goes down: what no longer answers has not crashed."""
        self._fanouts = Fanouts(turns, worktrees)
        self._observe = observe
        self._tracing = tracing
        self._claims = Claims()
        self.reconfigure(settings)

    def reconfigure(self, settings: Settings) -> None:
        """Take settings for the runs to come; those in hand keep theirs."""
        self.settings = settings
        self.turns.reconfigure(settings)
        server = settings.server
        self._limits = RunLimits(
            total=server.request_timeout_secs,
            first_event=server.first_event_timeout_secs,
            idle=server.idle_event_timeout_secs,
            permission=server.permission_timeout_secs,
            client_tool=server.client_tool_timeout_secs,
            reattach=server.reattach_grace_secs,
            transcript=server.max_transcript_bytes,
        )

    def backends_of(self, caller: str) -> dict[str, Backend]:
        """The backends that the caller may use."""
        may_use = self.turns.policy.may_use
        return {name: backend for name, backend in self.backends.items() if may_use(caller, name)}

    # Runs.

    async def plan(self, call: PromptCall) -> tuple[Backend, Options]:
        """Check a call and complete its options. Raises `Refusal` naming the field at fault."""
        return await self.turns.plan(call)

    async def plan_fanout(self, call: FanoutCall) -> list[tuple[Backend, Options]]:
        """Check a fan-out and complete the options of its tasks, in order. Raises `Refusal` as `plan`."""
        return await self._fanouts.plan(call)

    async def start(self, call: PromptCall | FanoutCall) -> Started:
        """Start a run, or find the one that its idempotency key started.

        Raises `Refusal` before anything has begun.
        """
        key = call.idempotency_key
        if not key:
            return await self._start(call)

        async def stored() -> Started | None:
            record = await self.store.idempotent(call.caller, key, time.time())
            if record is None:
                return None
            check_same(call.body_hash, record.body_hash)
            return _as_started(record)

        async def start(claim: Claim) -> Started:
            return await self._start(call, claim)

        return await self._claims.start((call.caller, key), call.body_hash, stored, start)

    async def follow(self, run_id: str, caller: str, after: int = 0) -> Follower:
        """Follow a run from entry `after` on. Raises `Refusal` if the caller has no such run."""
        run = await self.runs.ask(Find(run_id))
        died: ActorDied | None = None
        if run is not None:
            try:
                identity = await run.ask(Identify())
                if identity.owner == caller:
                    return Follower(identity, self.store, await run.stream(Follow(after)), after)
            except ActorDied as death:
                died = death
        # One that has ended in this moment is stored; one that has crashed may not be.
        record = await self.store.run(run_id, caller)
        if record is None:
            raise died or _no_run(run_id)
        identity = Identity(record.id, record.session or "", record.backend, owner=caller)
        return Follower(identity, self.store, None, after)

    async def cancel(self, run_id: str, caller: str) -> bool:
        """Stop a run; returns whether it was still going. Raises `Refusal` if the caller has no such run."""
        run = await self.live_run(run_id, caller)
        if run is not None:
            with suppress(ActorDied):
                return await run.ask(Cancel())
            return False
        await self.stored_run(run_id, caller)
        return False

    async def live_run(self, run_id: str, caller: str) -> Ref | None:
        """The caller's run of that id, if it is going, or was a moment ago."""
        run = await self.runs.ask(Find(run_id))
        with suppress(ActorDied):
            if run is not None and (await run.ask(Identify())).owner == caller:
                return run
        return None

    async def stored_run(self, run_id: str, caller: str) -> RunRecord:
        """The caller's run of that id, as it is stored. Raises `Refusal`."""
        record = await self.store.run(run_id, caller)
        if record is None:
            raise _no_run(run_id)
        return record

    # Sessions.

    async def session(self, session_id: str, caller: str) -> SessionRecord:
        """The caller's session of that id or unique prefix. Raises `Refusal`."""
        return await self.turns.find(session_id, caller)

    async def delete_session(self, session_id: str, caller: str) -> str:
        """Delete a session: its turn in hand is cancelled, its live conversation ended. Returns its whole id."""
        return await self.turns.delete(session_id, caller)

    async def fork_session(self, session_id: str, caller: str) -> SessionRecord:
        """A new session with the same history and options."""
        return await self.turns.fork(session_id, caller)

    # How a run comes to be.

    async def _start(self, call: PromptCall | FanoutCall, claim: Claim | None = None) -> Started:
        if isinstance(call, PromptCall):
            job = self._one_turn(await self.turns.prepare(call))
        else:
            job = await self._fanouts.prepare(call)
        return await self._run(call, job, claim)

    def _one_turn(self, ready: Ready) -> Job:
        record = ready.record

        async def turn(recorder: Recorder, place: Place) -> None:
            await self.turns.take(recorder, ready, ready.call.prompt, place.run)

        return Job(
            kind="prompt",
            backend=record.backend,
            work=turn,
            session_id=record.id,
            prompt=ready.call.prompt.text,
            options=record.options,
            kept=ready.kept,
        )

    async def _run(self, call: PromptCall | FanoutCall, job: Job, claim: Claim | None) -> Started:
        identity = Identity(new_id("run"), job.session_id, job.backend, call.detach, call.caller)
        journal = self._journal(call, job, identity) if job.kept else None
        asking = self._tracing.here()

        async def work(recorder: Recorder) -> None:
            told = {"clinvoker.run_id": identity.run_id, "clinvoker.backend": identity.backend}
            try:
                with self._tracing.span("run", told, asking) as span:
                    await job.work(recorder, Place(run.ref, journal))
                    span.ended(recorder.outcome)
            finally:
                # What was refused may be asked again under its key, unless the caller has the run to look at.
                if claim is not None and not recorder.begun and not call.detach:
                    self._claims.release((call.caller, call.idempotency_key), claim)

        run = Run(identity, work, self._limits, self._observe, journal)
        started = Started(identity, job.options, run.began)
        ref = await self._spawn(run, identity.run_id)
        if claim is not None:
            claim.started, claim.run = started, ref
        if call.detach and journal is not None:
            try:
                await journal.begin()
            except Refusal:
                with suppress(ActorDied):
                    await ref.ask(Cancel())
                raise
        return started

    async def _spawn(self, run: Run, run_id: str) -> Ref:
        """Start a run. A caller who leaves in this moment leaves a run that finds itself deserted, but is known here."""
        refs: list[Ref] = []
        with trio.CancelScope(shield=True):
            refs.append(await self.runs.ask(Spawn(run_id, run)))
        return refs[0]

    def _journal(self, call: PromptCall | FanoutCall, job: Job, identity: Identity) -> RunJournal:
        run = RunRecord(
            id=identity.run_id,
            owner=call.caller,
            kind=job.kind,
            backend=identity.backend,
            began=time.time(),
            session=identity.session_id or None,
            idempotency_key=call.idempotency_key or None,
            body_hash=call.body_hash,
        )
        return RunJournal(self.store, run, job.prompt, promised=call.detach)


def _no_run(run_id: str) -> Refusal:
    return Refusal(Code.NOT_FOUND, f"no run {run_id}", param="run_id")


def _as_started(record: RunRecord) -> Started:
    """A run that is stored, as the start that it was."""
    took = (time.time() if record.ended is None else record.ended) - record.began
    identity = Identity(record.id, record.session or "", record.backend, owner=record.owner)
    return Started(identity, Options(), trio.current_time() - max(took, 0.0))
