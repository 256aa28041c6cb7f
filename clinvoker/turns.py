"""Turns of sessions: what a call is made ready with, how its turn comes to run, and what becomes of the session."""

import time
from collections.abc import Generator, Mapping
from contextlib import closing, contextmanager, suppress

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
from clinvoker import workdir
from clinvoker.backends.choice import Backend, check, choose, with_defaults
from clinvoker.backends.probe import is_installed
from clinvoker.calls import PromptCall
from clinvoker.config import Settings
from clinvoker.flows import SessionEnded, take_turn
from clinvoker.keeping import SessionMemory
from clinvoker.records import remove_records
from clinvoker.store import Ambiguous, DeleteSession, ForkSession, SessionRecord, StoreClient
from clinvoker.tracing import OFF, Attributes, Tracing

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
        self.settings = settings
        self.backends = backends
        self._store = store
        self._limiter = limiter
        self._pools = pools
        self._sessions = sessions
        self._tracing = tracing
        self._opening = trio.Lock()
        self._in_hand: dict[str, set[Ref]] = {}
        """The runs that take a turn of a session now, or wait for it."""

    async def why_unavailable(self, name: str) -> str:
        """Why no turn of this backend would find an agent now; empty if one would."""
        status = await self._pools[name].ask(Status())
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

    def resolve(self, path: str) -> str:
        """The real path of a working directory. Raises `Refusal` if agents may not work there."""
        server = self.settings.server
        allowed, blocked = server.allowed_workdir_prefixes, server.blocked_workdir_prefixes
        return workdir.resolve(path, allowed, blocked)

    def _plan_new(self, call: PromptCall) -> tuple[Backend, Options]:
        backend = choose(self.backends, call.backend or self.settings.default_backend)
        options = with_defaults(call.options, backend.settings)
        if options.workdir:
            options = replace(options, workdir=self.resolve(options.workdir))
        check(backend, options, call.prompt)
        return backend, options

    async def _session_of(self, call: PromptCall) -> SessionRecord:
        """The session that a call continues, which must be able to take it."""
        record = await self.find(call.session_id, call.caller)
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
        with (
            self._having_in_hand(record.id, run),
            closing(await self._limiter.stream(Take(call.caller))) as permit,
        ):
            await permit.next()
            with self._tracing.span(f"invoke_agent {record.backend}", _traced(record)) as span:
                for left in reversed(range(ATTEMPTS)):
                    session = await self._open(record, ready.memory)
                    try:
                        mode = record.options.approval_mode
                        await take_turn(recorder, session, prompt, mode, queue=call.queue)
                    except SessionEnded:
                        if not left:
                            raise
                    else:
                        break
                span.ended(recorder.outcome)

    async def _open(self, record: SessionRecord, memory: Memory | None) -> Ref:
        """The session's actor, started if none is live."""
        async with self._opening:
            live = await self._sessions.ask(Find(record.id))
            if live is not None and live.alive:
                return live
            described = Description(record.id, record.backend, record.options)
            session = Session(described, self._pools[record.backend], memory)
            return await self._sessions.ask(Spawn(record.id, session))

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
        if live := await self._sessions.ask(Find(session_id)):
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
