"""From a chat to a run: in the session that has had it so far, if there is one, else in a new one that is told it."""

from functools import partial

import trio

from actors.driver import Capabilities
from actors.errors import Code, Refusal
from actors.messages import Complete
from clinvoker.chat.aside import is_aside, put_aside
from clinvoker.chat.asked import Asked, flight_of, line_of, may_be_again, next_call, opening_call
from clinvoker.chat.blame import as_sent
from clinvoker.chat.checked import CheckedRun
from clinvoker.chat.conversation import Said
from clinvoker.chat.flights import Flights
from clinvoker.chat.held import go_on, hold
from clinvoker.chat.lineage import Line, Lineage
from clinvoker.chat.reading import ChatRun, Reply
from clinvoker.chat.session import new_instructions, otherwise
from clinvoker.service import PromptCall, Service, Started

ELSEWHERE = frozenset({Code.SESSION_BUSY, Code.NOT_FOUND})
"""What a session answers that cannot go on with the conversation now: another can."""
PATIENCE = 5.0
"""Seconds in which a refusal can still become an HTTP status: then the client hears that its turn waits for a place."""
GLANCE = 0.25
"""The same for a turn that nobody waits for."""


class Chats:
    """Starts the turns of chats."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self._lineage = Lineage(service.store)
        self._flights = Flights(service)

    async def begin(self, asked: Asked) -> Reply:
        """Start a turn, or join the run that the same request has in flight; returns when the agent has begun.

        That may take long, where others have all places: after `PATIENCE` seconds it returns all the same. Close what is
        returned when the request is over: `current_request_stack().callback(reply.close)`. Raises `Refusal` for a turn
        that did not begin.
        """
        wishes = asked.wishes
        if is_aside(asked):
            asked = put_aside(asked, self.can(asked))
        with as_sent(wishes):
            run = await self._join(asked)
        if asked.schema is None or self.can(asked).schema:
            return run
        return CheckedRun(self, asked, run, asked.schema)

    async def _join(self, asked: Asked) -> ChatRun:
        key = flight_of(asked)
        if not may_be_again(asked):
            self._flights.begin(key)
        elif (joined := await self._flights.join(key, asked.caller, asked.attempt)) is not None:
            return await self._follow(asked, joined)
        try:
            return await self._start(asked, key)
        except BaseException:
            self._flights.failed(key)
            raise

    async def follow_up(self, asked: Asked) -> ChatRun:
        """Start a further turn of a request that has had one: it is nobody's retry."""
        return await self._start(asked, None)

    async def file(self, asked: Asked, session: str, answer: str) -> None:
        """The session has had the chat and this answer to it: it is the one to go on in.

        One that was asked for by its id may have had more.
        """
        if asked.wishes.session or asked.aside:
            return
        chat = asked.chat
        said = (*chat.history, chat.newest, Said("assistant", answer))
        await self._lineage.file(session, self._line(asked).keys(said))

    def _line(self, asked: Asked) -> Line:
        return line_of(asked, self.can(asked))

    def can(self, asked: Asked) -> Capabilities:
        """What the agent that is asked can do."""
        return self.service.backends[asked.choice.backend].driver.capabilities

    async def _start(self, asked: Asked, key: bytes | None) -> ChatRun:
        can = self.can(asked)
        if asked.aside:
            return await self._begun(asked, opening_call(asked, can), key)
        if (held := await self._held(asked)) is not None:
            if key is not None:
                self._flights.started(key, held)
            return await self._follow(asked, held)
        if asked.wishes.session:
            system = await self._check_session(asked)
            return await self._begun(asked, next_call(asked, can, asked.wishes.session, system), key)
        if asked.follows:
            run = await self._go_on(asked, asked.follows, key)
        else:
            async with self._lineage.going_on(self._line(asked).wanted(asked.chat.history)) as session:
                run = None if session is None else await self._go_on(asked, session, key)
        return run or await self._begun(asked, opening_call(asked, can), key)

    async def _go_on(self, asked: Asked, session: str, key: bytes | None) -> ChatRun | None:
        """Send the session what is new; None if it cannot go on with the conversation now."""
        try:
            system = ""
            if asked.chat.system and (asked.follows or not asked.chat.history):
                # By its history it is found with these instructions alone.
                record = await self.service.session(session, asked.caller)
                system = new_instructions(asked, record.options)
            return await self._begun(asked, next_call(asked, self.can(asked), session, system), key)
        except Refusal as refusal:
            if refusal.code not in ELSEWHERE:
                raise
            return None

    async def _held(self, asked: Asked) -> Started | None:
        """The run that has waited for the results of tools which the chat ends with."""
        results = asked.chat.newest.results
        if not results:
            return None
        backend = asked.choice.backend
        return await go_on(self.service, asked.caller, backend, results, detach=asked.detach)

    async def _check_session(self, asked: Asked) -> str:
        """The instructions that are new to the session that is asked for. Raises `Refusal` if it cannot be so."""
        options = (await self.service.session(asked.wishes.session, asked.caller)).options
        if (what := otherwise(asked, options, self.service.turns.policy)) is not None:
            message = f"{what}: the session was begun with another, or with none"
            raise Refusal(Code.INVALID_REQUEST, message, param=what)
        return new_instructions(asked, options)

    async def _begun(self, asked: Asked, call: PromptCall, key: bytes | None) -> ChatRun:
        started = await self.service.start(call)
        if key is not None:
            self._flights.started(key, started)
        run = await self._follow(asked, started)
        patience = GLANCE if asked.detach else min(PATIENCE, self.service.settings.server.heartbeat_secs)
        try:
            with trio.move_on_after(patience):
                await run.begin()
        except BaseException:
            run.close()
            raise
        return run

    async def _follow(self, asked: Asked, started: Started) -> ChatRun:
        run_id = started.identity.run_id

        async def cancel() -> None:
            await self.service.cancel(run_id, asked.caller)

        async def ended(complete: Complete) -> None:
            await self.file(asked, started.identity.session_id, complete.output)

        return ChatRun(
            started.identity,
            await self.service.follow(run_id, asked.caller, started.after),
            stop=asked.stop,
            prompt=asked.chat.newest.text,
            cancel=cancel,
            ended=ended,
            hold=partial(hold, self.service, run_id, asked.caller),
            after=started.after,
        )
