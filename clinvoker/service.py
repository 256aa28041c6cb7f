"""What the surfaces call: they turn a request into a `PromptCall`, start a run here, and follow its events.

All of them start runs in this one way; they differ only in how a request is read and how an event is written.
"""

import time
from collections.abc import Generator, Mapping
from contextlib import closing, contextmanager, suppress

import trio
from msgspec import Struct
from msgspec.structs import replace

from actors.errors import ActorDied, Code, Refusal
from actors.limiter import Take
from actors.mailbox import Ref
from actors.messages import Options, Prompt
from actors.run import Cancel, Follow, Identify, Identity, Recorder, Run, RunLimits, new_id
from actors.session import Description, End, Session
from actors.supervisor import Find, Spawn
from actors.telemetry import Observer
from clinvoker import workdir
from clinvoker.backends.choice import Backend, check, choose, with_defaults
from clinvoker.config import Settings
from clinvoker.flows import Parallel, SessionEnded, take_turn
from clinvoker.follower import Follower
from clinvoker.keeping import RunJournal, SessionMemory
from clinvoker.records import remove_records
from clinvoker.store import (
    Ambiguous,
    DeleteSession,
    ForkSession,
    RunRecord,
    SessionRecord,
    StoreClient,
)

ATTEMPTS = 3
"""How often a turn asks for a session that ends at that very moment."""


class PromptCall(Struct, frozen=True):
    """One turn, as any surface asks for it. Empty `backend` means the default one, or the session's own."""

    prompt: Prompt
    options: Options = Options()
    backend: str = ""
    session_id: str = ""
    """The session to go on with: its id, or a unique prefix of it."""
    caller: str = ""
    queue: bool = False
    detach: bool = False
    calls: Parallel = "none"
    tags: tuple[str, ...] = ()
    metadata: dict[str, str] = {}
    idempotency_key: str = ""
    body_hash: bytes = b""


class Started(Struct, frozen=True):
    """A run that is on its way, or the one that this request started when it was sent before."""

    identity: Identity
    options: Options
    began: float
    """On trio's clock, seconds."""
    after: int = 0
    """The entry after which what answers the request begins."""


class _Claim:
    """An idempotency key in use: its first sender holds it until there is a run, and the run until it has ended.

    After that, the store knows the run by its key.
    """

    def __init__(self, body_hash: bytes) -> None:
        self.body_hash = body_hash
        self.started: Started | None = None
        self.run: Ref | None = None
        self.decided = trio.Event()
        """Set once there is a run, or none came of it."""

    @property
    def holds(self) -> bool:
        return not self.decided.is_set() or (self.run is not None and self.run.alive)


class Service:
    """Starts and finds runs and sessions."""

    def __init__(
        self,
        settings: Settings,
        backends: Mapping[str, Backend],
        *,
        store: StoreClient,
        limiter: Ref,
        pools: Mapping[str, Ref],
        sessions: Ref,
        runs: Ref,
        observe: Observer,
    ) -> None:
        self.backends = backends
        self.pools = pools
        self.sessions = sessions
        self.runs = runs
        self.store = store
        self.stopping = False
        """The daemon goes down: what no longer answers has not crashed."""
        self._limiter = limiter
        self._observe = observe
        self._opening = trio.Lock()
        self._in_hand: dict[str, set[Ref]] = {}
        """The runs that take a turn of a session now, or wait for it."""
        self._claims: dict[tuple[str, str], _Claim] = {}
        """By caller and key."""
        self._most_claims = 1024
        self.reconfigure(settings)

    def reconfigure(self, settings: Settings) -> None:
        """Take settings for the runs to come; those in hand keep theirs."""
        self.settings = settings
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

    # Runs.

    async def plan(self, call: PromptCall) -> tuple[Backend, Options]:
        """Check a call and complete its options. Raises `Refusal` naming the field at fault."""
        if call.session_id:
            record = await self._session_of(call)
            return self.backends[record.backend], record.options
        return self._plan_new(call)

    async def start(self, call: PromptCall) -> Started:
        """Start a run of one turn, or find the one that its idempotency key started.

        Raises `Refusal` before anything has begun.
        """
        if not call.idempotency_key:
            return await self._start(call)
        place = call.caller, call.idempotency_key
        while (claim := self._claims.get(place)) is not None and claim.holds:
            _check_same(call, claim.body_hash)
            await claim.decided.wait()
            if claim.started is not None and claim.holds:
                return claim.started
        claim = self._claim(place, call.body_hash)
        try:
            record = await self.store.idempotent(call.caller, call.idempotency_key, time.time())
            if record is not None:
                _check_same(call, record.body_hash)
                return _as_started(record)
            return await self._start(call, claim)
        finally:
            claim.decided.set()
            if claim.started is None:
                self._release(place, claim)

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
        record = await self.store.session(session_id, caller)
        if isinstance(record, Ambiguous):
            message = f"more than one session begins with {session_id}"
            raise Refusal(Code.INVALID_REQUEST, message, param="session_id")
        if record is None:
            raise Refusal(Code.NOT_FOUND, f"no session {session_id}", param="session_id")
        return record

    async def delete_session(self, session_id: str, caller: str) -> str:
        """Delete a session: its turn in hand is cancelled, its live conversation ended. Returns its whole id."""
        record = await self.session(session_id, caller)
        await self._end_session(record.id)
        await self.store.write(DeleteSession(record.id))
        # And what began in between, which finds no session to be kept in.
        await self._end_session(record.id)
        if record.conversation is not None and record.backend in self.backends:
            await remove_records(self.backends[record.backend].driver, record.conversation)
        return record.id

    async def fork_session(self, session_id: str, caller: str) -> SessionRecord:
        """A new session with the same history and options."""
        parent = await self.session(session_id, caller)
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
        await self.store.write(ForkSession(fork))
        return await self.session(fork.id, caller)

    # How a turn comes to run.

    def _plan_new(self, call: PromptCall) -> tuple[Backend, Options]:
        backend = choose(self.backends, call.backend or self.settings.default_backend)
        options = with_defaults(call.options, backend.settings)
        if options.workdir:
            server = self.settings.server
            allowed, blocked = server.allowed_workdir_prefixes, server.blocked_workdir_prefixes
            options = replace(options, workdir=workdir.resolve(options.workdir, allowed, blocked))
        check(backend, options, call.prompt)
        return backend, options

    async def _start(self, call: PromptCall, claim: _Claim | None = None) -> Started:
        if call.session_id:
            record = await self._session_of(call)
            memory = SessionMemory(self.store, record, stored=True)
        else:
            record = self._new_record(call)
            memory = None if record.options.ephemeral else SessionMemory(self.store, record, stored=False)
        return await self._run(call, record, memory, claim)

    async def _session_of(self, call: PromptCall) -> SessionRecord:
        """The session that a call continues, which must be able to take it."""
        record = await self.session(call.session_id, call.caller)
        if call.backend not in {"", record.backend}:
            message = f"the session is one of {record.backend}, not {call.backend}"
            raise Refusal(Code.INVALID_REQUEST, message, param="backend")
        check(choose(self.backends, record.backend), record.options, call.prompt)
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

    async def _run(
        self, call: PromptCall, record: SessionRecord, memory: SessionMemory | None, claim: _Claim | None
    ) -> Started:
        identity = Identity(new_id("run"), record.id, record.backend, call.detach, call.caller)

        async def turn(recorder: Recorder) -> None:
            try:
                with self._having_in_hand(record.id, run.ref):
                    await self._turn(recorder, call, record, memory)
            finally:
                # What was refused may be asked again under its key, unless the caller has the run to look at.
                if claim is not None and not recorder.begun and not call.detach:
                    self._release((call.caller, call.idempotency_key), claim)

        journal = self._journal(call, identity) if memory is not None else None
        run = Run(identity, turn, self._limits, self._observe, journal)
        started = Started(identity, record.options, run.began)
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

    async def _turn(
        self, recorder: Recorder, call: PromptCall, record: SessionRecord, memory: SessionMemory | None
    ) -> None:
        """Take a turn, once there is a place for it."""
        mode = record.options.approval_mode
        with closing(await self._limiter.stream(Take(call.caller))) as permit:
            await permit.next()
            for left in reversed(range(ATTEMPTS)):
                session = await self._open(record, memory)
                try:
                    await take_turn(recorder, session, call.prompt, mode, queue=call.queue, calls=call.calls)
                except SessionEnded:
                    if not left:
                        raise
                else:
                    break

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

    async def _end_session(self, session_id: str) -> None:
        """Cancel all runs that take or await a turn of a session, and end what is live of it."""
        for run in list(self._in_hand.get(session_id, ())):
            with suppress(ActorDied):
                await run.ask(Cancel())
        if live := await self.sessions.ask(Find(session_id)):
            with suppress(ActorDied):
                await live.tell(End())

    def _journal(self, call: PromptCall, identity: Identity) -> RunJournal:
        run = RunRecord(
            id=identity.run_id,
            owner=call.caller,
            kind="prompt",
            backend=identity.backend,
            began=time.time(),
            session=identity.session_id,
            idempotency_key=call.idempotency_key or None,
            body_hash=call.body_hash,
        )
        return RunJournal(self.store, run, call.prompt.text, promised=call.detach)

    async def _open(self, record: SessionRecord, memory: SessionMemory | None) -> Ref:
        """The session's actor, started if none is live."""
        async with self._opening:
            live = await self.sessions.ask(Find(record.id))
            if live is not None and live.alive:
                return live
            described = Description(record.id, record.backend, record.options)
            session = Session(described, self.pools[record.backend], memory)
            return await self.sessions.ask(Spawn(record.id, session))

    # Idempotency.

    def _claim(self, place: tuple[str, str], body_hash: bytes) -> _Claim:
        if len(self._claims) >= self._most_claims:
            self._claims = {key: claim for key, claim in self._claims.items() if claim.holds}
            self._most_claims = 2 * len(self._claims) + 1024
        claim = self._claims[place] = _Claim(body_hash)
        return claim

    def _release(self, place: tuple[str, str], claim: _Claim) -> None:
        if self._claims.get(place) is claim:
            del self._claims[place]


def _no_run(run_id: str) -> Refusal:
    return Refusal(Code.NOT_FOUND, f"no run {run_id}", param="run_id")


def _check_same(call: PromptCall, body_hash: bytes) -> None:
    if call.body_hash != body_hash:
        message = "this Idempotency-Key was used for another request"
        raise Refusal(Code.IDEMPOTENCY, message, param="Idempotency-Key")


def _as_started(record: RunRecord) -> Started:
    """A run that is stored, as the start that it was."""
    took = (time.time() if record.ended is None else record.ended) - record.began
    identity = Identity(record.id, record.session or "", record.backend, owner=record.owner)
    return Started(identity, Options(), trio.current_time() - max(took, 0.0))
