"""What the surfaces call: they turn a request into a `PromptCall`, start a run here, and follow its events.

All of them start runs in this one way; they differ only in how a request is read and how an event is written.
"""

import time
from collections import OrderedDict
from collections.abc import Mapping
from contextlib import closing

import trio
from msgspec import Struct
from msgspec.structs import replace

from actors.errors import Code, Refusal
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
from clinvoker.flows import take_turn
from clinvoker.follower import Follower
from clinvoker.keeping import RunJournal, SessionMemory
from clinvoker.store import (
    Ambiguous,
    DeleteSession,
    ForkSession,
    RunRecord,
    SessionRecord,
    StoreClient,
)

KEYS_REMEMBERED = 4096
"""Idempotency keys of runs that may not be stored yet."""


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
        self._in_hand: dict[str, Ref] = {}
        """The run that takes a turn of a session now."""
        self._keys: OrderedDict[tuple[str, str], tuple[bytes, Started]] = OrderedDict()
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
        # Decided without a wait in between: of two that come together, the second finds the first.
        known = self._keys.get((call.caller, call.idempotency_key))
        if known is None:
            known = await self._stored_under_key(call)
        if known is None:
            return await self._start(call)
        if known[0] != call.body_hash:
            message = "this Idempotency-Key was used for another request"
            raise Refusal(Code.IDEMPOTENCY, message, param="Idempotency-Key")
        return known[1]

    async def follow(self, run_id: str, caller: str, after: int = 0) -> Follower:
        """Follow a run from entry `after` on. Raises `Refusal` if the caller has no such run."""
        run = await self.runs.ask(Find(run_id))
        if run is not None:
            identity = await run.ask(Identify())
            if identity.owner == caller:
                return Follower(identity, self.store, await run.stream(Follow(after)), after)
        record = await self.stored_run(run_id, caller)
        identity = Identity(record.id, record.session or "", record.backend, owner=caller)
        return Follower(identity, self.store, None, after)

    async def cancel(self, run_id: str, caller: str) -> bool:
        """Stop a run; returns whether it was still going. Raises `Refusal` if the caller has no such run."""
        run = await self.live_run(run_id, caller)
        if run is not None:
            return await run.ask(Cancel())
        await self.stored_run(run_id, caller)
        return False

    async def live_run(self, run_id: str, caller: str) -> Ref | None:
        """The caller's run of that id, if it is going."""
        run = await self.runs.ask(Find(run_id))
        if run is not None and (await run.ask(Identify())).owner == caller:
            return run
        return None

    async def stored_run(self, run_id: str, caller: str) -> RunRecord:
        """The caller's run of that id, as it is stored. Raises `Refusal`."""
        record = await self.store.run(run_id, caller)
        if record is None:
            raise Refusal(Code.NOT_FOUND, f"no run {run_id}", param="run_id")
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
        if run := self._in_hand.get(record.id):
            await run.ask(Cancel())
        if live := await self.sessions.ask(Find(record.id)):
            await live.tell(End())
        await self.store.write(DeleteSession(record.id))
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

    async def _start(self, call: PromptCall) -> Started:
        if call.session_id:
            record = await self._session_of(call)
            memory = SessionMemory(self.store, record, stored=True)
        else:
            record = self._new_record(call)
            memory = None if record.options.ephemeral else SessionMemory(self.store, record, stored=False)
        return await self._run(call, record, memory)

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

    async def _run(self, call: PromptCall, record: SessionRecord, memory: SessionMemory | None) -> Started:
        identity = Identity(new_id("run"), record.id, record.backend, call.detach, call.caller)

        async def turn(recorder: Recorder) -> None:
            with closing(await self._limiter.stream(Take(call.caller))) as permit:
                await permit.next()
                session = await self._open(record, memory)
                self._in_hand[record.id] = ref
                try:
                    mode = record.options.approval_mode
                    await take_turn(recorder, session, call.prompt, mode, queue=call.queue)
                finally:
                    if self._in_hand.get(record.id) is ref:
                        del self._in_hand[record.id]

        journal = self._journal(call, identity) if memory is not None else None
        run = Run(identity, turn, self._limits, self._observe, journal)
        started = Started(identity, record.options, run.began)
        if call.idempotency_key:
            self._remember_key(call, started)
        if call.detach and journal is not None:
            await journal.begin()
        # A caller who leaves in this moment leaves a run that finds itself deserted.
        ref = await self.runs.ask(Spawn(identity.run_id, run))
        return started

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
        return RunJournal(self.store, run, call.prompt.text)

    async def _open(self, record: SessionRecord, memory: SessionMemory | None) -> Ref:
        """The session's actor, started if none is live."""
        async with self._opening:
            live = await self.sessions.ask(Find(record.id))
            if live is not None and live.alive:
                return live
            described = Description(record.id, record.backend, record.options)
            session = Session(described, self.pools[record.backend], memory, record.conversation)
            return await self.sessions.ask(Spawn(record.id, session))

    # Idempotency.

    def _remember_key(self, call: PromptCall, started: Started) -> None:
        self._keys[call.caller, call.idempotency_key] = call.body_hash, started
        while len(self._keys) > KEYS_REMEMBERED:
            self._keys.popitem(last=False)

    async def _stored_under_key(self, call: PromptCall) -> tuple[bytes, Started] | None:
        record = await self.store.idempotent(call.caller, call.idempotency_key, time.time())
        if record is None:
            return self._keys.get((call.caller, call.idempotency_key))
        identity = Identity(record.id, record.session or "", record.backend, owner=call.caller)
        return record.body_hash, Started(identity, Options(), trio.current_time())
