"""Turns of sessions: what a call is made ready with, how its turn comes to run, and what becomes of the session."""

import time
from collections.abc import Generator, Mapping
from contextlib import closing, contextmanager, nullcontext, suppress

import trio
from msgspec import Struct
from msgspec.structs import replace

from actors.errors import ActorDied, Code, Refusal
from actors.journal import Memory
from actors.lease import Status
from actors.limiter import Take
from actors.mailbox import Ref
from actors.messages import Options, Prompt
from actors.recorder import Recorder
from actors.run import Cancel, new_id
from actors.session import Description, End, Session
from actors.supervisor import Find, Spawn
from clinvoker.backends.choice import Backend, check, choose
from clinvoker.backends.probe import is_installed
from clinvoker.budget import Budgets, Meter
from clinvoker.calls import PromptCall
from clinvoker.config import Settings
from clinvoker.flows import SessionEnded, take_turn
from clinvoker.giveway import HeldRuns
from clinvoker.keeping import SessionMemory
from clinvoker.known import KnownSessions
from clinvoker.logs import get_logger
from clinvoker.policy import Policy
from clinvoker.records import remove_records
from clinvoker.store import Ambiguous, DeleteSession, ForkSession, SessionRecord, StoreClient
from clinvoker.tracing import OFF, Attributes, Tracing

_log = get_logger("clinvoker")

ATTEMPTS = 3
"""How often a turn asks for a session that ends at that very moment."""


class Ready(Struct, frozen=True):
    """A call that was checked, with the session for its turn."""

    call: PromptCall
    record: SessionRecord
    memory: Memory | None
    """None for a session of one turn, of which nothing is remembered."""

    @property
    def kept(self) -> bool:
        """Whether the session is stored, or will be."""
        return isinstance(self.memory, SessionMemory)


class Turns:
    """Makes calls ready and takes their turns."""

    def __init__(
        self,
        settings: Settings,
        backends: Mapping[str, Backend],
        *,
        store: StoreClient,
        limiter: Ref,
        pools: Mapping[str, Ref],
        sessions: Ref,
        tracing: Tracing = OFF,
    ) -> None:
        self.backends = backends
        self.pools = pools
        self.sessions = sessions
        self.budgets = Budgets(store)
        self._store = store
        self._limiter = limiter
        self._known = KnownSessions()
        self._tracing = tracing
        self._opening = trio.Lock()
        self.held = HeldRuns(limiter, pools, lambda: self.settings.server.client_tool_grace_secs)
        self._in_hand: dict[str, set[Ref]] = {}
        """The runs that take a turn of a session now, or wait for it."""

        self.reconfigure(settings)

    def reconfigure(self, settings: Settings) -> None:
        """Take settings for the turns to come; those in hand keep theirs."""
        self.settings = settings
        self.policy = Policy(settings)

    async def why_unavailable(self, name: str) -> str:
        """Why no turn of this backend would find an agent now; empty if one would."""
        status = await self.pools[name].ask(Status())
        driver = self.backends[name].driver
        return status.reason or ("" if is_installed(driver) else f"{driver.program} is not installed")

    # Making ready.

    async def plan(self, call: PromptCall) -> tuple[Backend, Options]:
        """Check a call and complete its options. Raises `Refusal` naming the field at fault."""
        if call.session_id:
            record = await self._session_of(call)
            return self.backends[record.backend], record.options
        return self._plan_new(call)

    async def prepare(self, call: PromptCall) -> Ready:
        """Check a call, and find or make the session for its turn. Raises `Refusal`."""
        if call.session_id:
            record = await self._session_of(call)
            return Ready(call, record, SessionMemory(self._store, record, stored=True))
        record = self._new_record(call)
        kept = not record.options.ephemeral
        return Ready(call, record, SessionMemory(self._store, record, stored=False) if kept else None)

    def _plan_new(self, call: PromptCall) -> tuple[Backend, Options]:
        backend, options = self.policy.plan(
            self.backends, call.caller, call.backend, call.options, scratch=call.scratch
        )
        check(backend, options, call.prompt)
        return backend, options

    async def _session_of(self, call: PromptCall) -> SessionRecord:
        """The session that a call continues, which must be able to take it."""
        record = self._known.get(call.session_id, call.caller)
        if record is None:
            record = await self.find(call.session_id, call.caller)
            self._known.add(record)
        if call.backend not in {"", record.backend}:
            message = f"the session is one of {record.backend}, not {call.backend}"
            raise Refusal(Code.INVALID_REQUEST, message, param="backend")
        check(choose(self.backends, record.backend), record.options, call.prompt)
        self.policy.check_session(call.caller, record.backend, record.options)
        return record

    def _new_record(self, call: PromptCall) -> SessionRecord:
        backend, options = self._plan_new(call)
        now = time.time()
        return SessionRecord(
            id=new_id("ses"),
            owner=call.caller,
            backend=backend.driver.name,
            created=now,
            updated=now,
            options=options,
            workdir=options.workdir,
            model=options.model,
            tags=(*self.settings.session.default_tags, *call.tags),
            metadata=call.metadata,
        )

    # Taking.

    async def take(
        self, recorder: Recorder, ready: Ready, prompt: Prompt, run: Ref, options: Options | None = None
    ) -> None:
        """Take a turn, once there is a place for it; in a session with other `options`, if there are such.

        Raises `Refusal`, `SessionEnded`.
        """
        record, call = ready.record, ready.call
        if options is not None:
            record = replace(record, options=options)
        self._audit(recorder, ready, record.options)
        key = self.policy.key_of(call.caller)
        budget = self.budgets.metering(call.caller, key and key.daily_tokens, prompt.text)
        client = call.client or call.caller
        with (
            self._having_in_hand(record.id, run),
            nullcontext() if call.calls == "none" else self.held.having(run, recorder, client),
            closing(await self._limiter.stream(Take(client))) as permit,
        ):
            await permit.next()
            span = self._tracing.span(f"invoke_agent {record.backend}", _traced(record))
            async with budget as meter:
                with span as traced:
                    await self._attempt(recorder, ready, record, prompt, meter)
                    traced.ended(recorder.outcome)
            if options is None and isinstance(ready.memory, SessionMemory) and ready.memory.stored:
                self._known.add(record)

    async def _attempt(
        self, recorder: Recorder, ready: Ready, record: SessionRecord, prompt: Prompt, meter: Meter
    ) -> None:
        """Take the turn, in a new session's actor if the one that is asked ends at that very moment."""
        mode = record.options.approval_mode
        for left in reversed(range(ATTEMPTS)):
            # What was checked may have become another directory while the turn waited.
            self.policy.still_work_in(ready.call.caller, ready.record.options.workdir)
            session = await self._open(record, ready.memory)
            try:
                await take_turn(
                    recorder,
                    session,
                    prompt,
                    mode,
                    queue=ready.call.queue,
                    calls=ready.call.calls,
                    meter=meter,
                )
            except SessionEnded:
                if not left:
                    raise
            else:
                break

    def _audit(self, recorder: Recorder, ready: Ready, options: Options) -> None:
        """Who runs what; nothing of what is said."""
        call, record = ready.call, ready.record
        _log.info(
            "turn asked for",
            run_id=recorder.identity.run_id,
            session_id=record.id,
            caller=self.policy.name_of(call.caller) or call.client,
            backend=record.backend,
            model=options.model,
            workdir=options.workdir,
            approval_mode=options.approval_mode,
            sandbox_mode=options.sandbox_mode,
        )

    async def _open(self, record: SessionRecord, memory: Memory | None) -> Ref:
        """The session's actor, started if none is live."""
        async with self._opening:
            live = await self.sessions.ask(Find(record.id))
            if live is not None and live.alive:
                return live
            described = Description(record.id, record.backend, record.options)
            session = Session(described, self.pools[record.backend], memory)
            return await self.sessions.ask(Spawn(record.id, session))

    @contextmanager
    def _having_in_hand(self, session_id: str, run: Ref) -> Generator[None]:
        runs = self._in_hand.setdefault(session_id, set())
        runs.add(run)
        try:
            yield
        finally:
            runs.discard(run)
            if not runs and self._in_hand.get(session_id) is runs:
                del self._in_hand[session_id]

    # Sessions.

    async def find(self, session_id: str, caller: str) -> SessionRecord:
        """The caller's session of that id or unique prefix. Raises `Refusal`."""
        record = await self._store.session(session_id, caller)
        if isinstance(record, Ambiguous):
            message = f"more than one session begins with {session_id}"
            raise Refusal(Code.INVALID_REQUEST, message, param="session_id")
        if record is None:
            raise Refusal(Code.NOT_FOUND, f"no session {session_id}", param="session_id")
        return record

    async def delete(self, session_id: str, caller: str) -> str:
        """Delete a session: its turn in hand is cancelled, its live conversation ended. Returns its whole id."""
        record = await self.find(session_id, caller)
        self._known.discard(record.id)
        await self._cancel_runs(record.id)
        await self.end(record.id)
        await self._store.write(DeleteSession(record.id))
        # And what began in between, which finds no session to be kept in.
        await self._cancel_runs(record.id)
        await self.end(record.id)
        if record.conversation is not None and record.backend in self.backends:
            await remove_records(self.backends[record.backend].driver, record.conversation)
        return record.id

    async def fork(self, session_id: str, caller: str) -> SessionRecord:
        """A new session with the same history and options."""
        parent = await self.find(session_id, caller)
        now = time.time()
        fork = replace(
            parent,
            id=new_id("ses"),
            parent=parent.id,
            conversation=None,
            created=now,
            updated=now,
            status="idle",
        )
        await self._store.write(ForkSession(fork))
        return await self.find(fork.id, caller)

    async def end(self, session_id: str) -> None:
        """End what is live of a session."""
        if live := await self.sessions.ask(Find(session_id)):
            with suppress(ActorDied):
                await live.tell(End())

    async def forget(self, ready: Ready) -> None:
        """End a session that is not to be kept, and remove what its agent keeps of it."""
        await self.end(ready.record.id)
        conversation = None if ready.memory is None else await ready.memory.conversation()
        if conversation is not None:
            await remove_records(self.backends[ready.record.backend].driver, conversation)

    async def _cancel_runs(self, session_id: str) -> None:
        """Cancel all runs that take or await a turn of a session."""
        for run in list(self._in_hand.get(session_id, ())):
            with suppress(ActorDied):
                await run.ask(Cancel())


def _traced(record: SessionRecord) -> Attributes:
    """What a turn's span tells: who is asked, in which conversation."""
    told = {
        "gen_ai.operation.name": "invoke_agent",
        "gen_ai.agent.name": record.backend,
        "gen_ai.conversation.id": record.id,
    }
    return told | ({"gen_ai.request.model": record.model} if record.model else {})
