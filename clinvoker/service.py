"""What the surfaces call: they turn a request into `Ask`, start a run here, and follow its events.

All of them start runs in this one way; they differ only in how a request is read and how an event is written.
"""

from collections.abc import Awaitable, Callable, Mapping
from contextlib import closing

from msgspec import Struct
from msgspec.structs import replace

from actors.errors import Code, Refusal
from actors.limiter import Take
from actors.mailbox import Ref
from actors.messages import Options, Prompt
from actors.run import Identity, Recorder, Run, RunLimits, new_id
from actors.session import Describe, Description, Session
from actors.supervisor import Find, Spawn
from actors.telemetry import Observer
from clinvoker import workdir
from clinvoker.backends.choice import Backend, check, choose, with_defaults
from clinvoker.config import Settings
from clinvoker.flows import take_turn


class PromptCall(Struct, frozen=True):
    """One turn, as any surface asks for it. Empty `backend` means the default one, or the session's own."""

    prompt: Prompt
    options: Options
    backend: str = ""
    session_id: str = ""
    caller: str = ""


class Started(Struct, frozen=True):
    """A run that is on its way."""

    run: Ref
    identity: Identity
    options: Options
    began: float
    """On trio's clock, seconds."""


class Service:
    """Starts and finds runs."""

    def __init__(
        self,
        settings: Settings,
        backends: Mapping[str, Backend],
        *,
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
        self.stopping = False
        """The daemon goes down: what no longer answers has not crashed."""
        self._limiter = limiter
        self._observe = observe
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

    async def plan(self, call: PromptCall) -> tuple[Backend, Options]:
        """Check a call and complete its options. Raises `Refusal` naming the field at fault."""
        if call.session_id:
            _, described = await self._find_session(call)
            return self.backends[described.backend], described.options
        return self._plan_new(call)

    def _plan_new(self, call: PromptCall) -> tuple[Backend, Options]:
        backend = choose(self.backends, call.backend or self.settings.default_backend)
        options = with_defaults(call.options, backend.settings)
        if options.workdir:
            server = self.settings.server
            allowed, blocked = server.allowed_workdir_prefixes, server.blocked_workdir_prefixes
            options = replace(options, workdir=workdir.resolve(options.workdir, allowed, blocked))
        check(backend, options, call.prompt)
        return backend, options

    async def start(self, call: PromptCall) -> Started:
        """Start a run of one turn. Raises `Refusal` before anything has begun."""
        if call.session_id:
            return await self._continue(call)
        backend, options = self._plan_new(call)
        name = backend.driver.name
        session_id = new_id("ses")

        async def open_session() -> Ref:
            session = Session(session_id, name, self.pools[name], options)
            return await self.sessions.ask(Spawn(session_id, session))

        return await self._run(call, Description(session_id, name, options), open_session)

    async def _continue(self, call: PromptCall) -> Started:
        session, described = await self._find_session(call)

        async def the_session() -> Ref:
            return session

        return await self._run(call, described, the_session)

    async def _find_session(self, call: PromptCall) -> tuple[Ref, Description]:
        """The session that a call continues, which must be able to take it."""
        session = await self.sessions.ask(Find(call.session_id))
        if session is None:
            raise Refusal(Code.NOT_FOUND, f"no session {call.session_id}", param="session_id")
        described = await session.ask(Describe())
        if call.backend not in {"", described.backend}:
            message = f"the session is one of {described.backend}, not {call.backend}"
            raise Refusal(Code.INVALID_REQUEST, message, param="backend")
        check(self.backends[described.backend], described.options, call.prompt)
        return session, described

    async def _run(
        self, call: PromptCall, described: Description, find_session: Callable[[], Awaitable[Ref]]
    ) -> Started:
        identity = Identity(new_id("run"), described.id, described.backend)
        options = described.options

        async def turn(recorder: Recorder) -> None:
            with closing(await self._limiter.stream(Take(call.caller))) as permit:
                await permit.next()
                await take_turn(recorder, await find_session(), call.prompt, options.approval_mode)

        run = Run(identity, turn, self._limits, self._observe)
        # A caller who leaves in this moment leaves a run that finds itself deserted.
        ref = await self.runs.ask(Spawn(identity.run_id, run))
        return Started(ref, identity, options, run.began)

    async def find_run(self, run_id: str) -> Ref:
        """The run of that id. Raises `Refusal`."""
        run = await self.runs.ask(Find(run_id))
        if run is None:
            raise Refusal(Code.NOT_FOUND, f"no run {run_id} is going")
        return run
