"""One live conversation: one turn at a time, on the runner that holds it.

A session lives as long as its conversation is live in the pool, and for a while after. What outlives it is its
memory: the agent's own id of the conversation, by which a later turn resumes it, and the history, which is told to an
agent that cannot resume.
"""

from contextlib import closing, suppress
from typing import Any

import trio
from msgspec import Struct
from msgspec.structs import replace

from actors.actor import Actor
from actors.asks import Approve, CallClient
from actors.errors import ActorDied, Code, Refusal
from actors.journal import Memory
from actors.lease import Close, Lease, Released, Verdict
from actors.mailbox import Ask, Emit, Ref, Replies, Stream, Tell
from actors.messages import Complete, Event, Failed, Options, Prompt, as_failed
from actors.replay import with_history
from actors.runner import Batch, Turn

LINE = 16
"""Turns that may wait for the one in hand."""

UNRESUMABLE = frozenset({Code.NOT_FOUND, Code.UNSUPPORTED})
"""What an agent answers that does not know the conversation, or cannot resume any."""

UNUSED = 30.0
"""Seconds that a session without a process waits for a turn: a new one, and one whose process died."""


class Begin(Stream[list[Event]], frozen=True):
    """One turn. Refused with `SESSION_BUSY` while another is in hand; the last event is `Complete` or `Failed`."""

    prompt: Prompt
    approve: Approve
    queue: bool = False
    """Wait for the turn in hand instead of being refused. An empty batch says when the waiting is over."""
    client: CallClient | None = None
    """Whoever runs the client's tools."""


class End(Tell, frozen=True):
    """The session is deleted: what is live of it goes."""


class Describe(Ask["Description"], frozen=True):
    """What this session is."""


class Description(Struct, frozen=True):
    """A session's fixed parts."""

    id: str
    backend: str
    options: Options


class Session(Actor):
    """Serialises the turns of one conversation."""

    def __init__(
        self,
        description: Description,
        pool: Ref,
        memory: Memory | None = None,
    ) -> None:
        super().__init__()
        self._description = description
        self._pool = pool
        self._memory = memory
        self._recalled = memory is None
        self._conversation: str | None = None
        self._line: set[int] = set()
        """The turns that wait for their turn, by the identity of their messages."""
        self._current: Begin | None = None
        """The turn in hand, until its last event has gone out."""
        self._runner: Ref | None = None
        """The runner that holds the conversation, as far as is known."""
        self._begun = 0
        self._heard = False
        """Whether the agent has begun to answer the turn in hand."""
        self._held = False
        """Whether that turn went to a process that held the conversation already, and may have died since."""
        self._turns = trio.Lock()

    @property
    def _busy(self) -> bool:
        return self._current is not None or bool(self._line)

    async def started(self) -> None:
        """Watch that the session is used: one whose caller left before the first turn would stay for ever."""
        self.nursery.start_soon(self._end_unused)

    async def receive(self, message: Tell | Ask[Any]) -> object:
        """Take `Released`, `End` and `Describe`."""
        match message:
            case Released(runner=runner, died=died):
                if runner is self._runner:
                    self._runner = None
                    if not self._busy and not died:
                        self.end()
                    elif not self._busy:
                        self.nursery.start_soon(self._end_unused)
                return None
            case End():
                self.end()
                return None
            case Describe():
                return self._description
            case _:
                return await super().receive(message)

    async def admit(self, message: Stream[Any]) -> None:
        """Accept a turn unless one is in hand."""
        if not isinstance(message, Begin):
            await super().admit(message)
        elif self._busy and message.queue:
            if len(self._line) >= LINE:
                raise Refusal(
                    Code.SESSION_BUSY, f"{LINE} turns wait for the session already", retry_after=1.0
                )
            self._line.add(id(message))
        elif self._busy:
            raise Refusal(
                Code.SESSION_BUSY, "the session has a turn in hand", param="session_id", retry_after=1.0
            )
        elif self._conversation is not None and self._description.options.ephemeral:
            raise Refusal(Code.NOT_FOUND, "the session was for one turn only", param="session_id")
        else:
            self._begin(message)

    async def produce(self, message: Stream[Any], emit: Emit[Any]) -> None:
        """Run the turn: lease a runner, pass its events on."""
        if not isinstance(message, Begin):
            await super().produce(message, emit)
            return
        try:
            # Held while a turn winds down, after its last event has gone out: the next one waits for that, unrefused.
            try:
                await self._turns.acquire()
            finally:
                self._line.discard(id(message))
            try:
                self._begin(message)
                if message.queue:
                    await emit([])
                await self._turn(message, emit)
            finally:
                self._turns.release()
        finally:
            self._ended(message)
            if not self._busy and (self._description.options.ephemeral or self._conversation is None):
                self.end()
            elif not self._busy and self._runner is None:
                self.nursery.start_soon(self._end_unused)

    async def stopping(self) -> None:
        """What is live of the conversation may go."""
        with suppress(ActorDied):
            await self._pool.tell(Close(self._description.id))

    async def _turn(self, begin: Begin, emit: Emit[list[Event]]) -> None:
        """Run a turn; a conversation that the agent cannot take up again is told to it anew, once."""
        await self._recall()
        self._heard = self._held = False
        if self._conversation is not None:
            try:
                await self._resume(begin, emit)
            except Refusal as refusal:
                if refusal.code not in UNRESUMABLE or self._memory is None or self._heard:
                    raise
            else:
                return
        # The old conversation is forgotten only when there is a new one.
        await self._attempt(begin, await self._told(begin.prompt), None, emit)

    async def _resume(self, begin: Begin, emit: Emit[list[Event]]) -> None:
        """Go on with the conversation; in another process, if the one that held it turns out to be dead."""
        self._held = self._runner is not None
        try:
            await self._attempt(begin, begin.prompt, self._conversation, emit)
        except Refusal as refusal:
            if refusal.code is not Code.CRASHED or self._heard or not self._held:
                raise
            self._held = False
            await self._attempt(begin, begin.prompt, self._conversation, emit)

    async def _attempt(
        self, begin: Begin, prompt: Prompt, resume: str | None, emit: Emit[list[Event]]
    ) -> None:
        session = self._description
        lease = Lease(session.id, self.ref, session.options, resume)
        with closing(await self._pool.stream(lease)) as leases:
            runner = self._runner = await leases.next()
            turn = Turn(session.id, prompt, session.options, begin.approve, resume, begin.client)
            with closing(await _start(runner, turn)) as batches:
                try:
                    async for batch in batches:
                        await self._pass_on(begin, batch, emit)
                except Refusal as refusal:  # before any batch: an agent may ask for a login when it opens
                    await self._pool.tell(Verdict(as_failed(refusal)))
                    raise
                finally:
                    # The runner is free again only when the agent has let go of the turn, however it ended.
                    batches.close()
                    with trio.CancelScope(shield=True):
                        await batches.wait_ended()

    async def _told(self, prompt: Prompt) -> Prompt:
        """The prompt with the history before it, for an agent that has none."""
        history = await self._memory.history() if self._memory is not None else []
        return replace(prompt, text=with_history(history, prompt.text))

    async def _pass_on(self, begin: Begin, batch: Batch, emit: Emit[list[Event]]) -> None:
        first = batch.events[0]
        if self._held and not self._heard and isinstance(first, Failed) and first.code is Code.CRASHED:
            raise Refusal(first.code, first.message)
        self._heard = True
        if batch.conversation != self._conversation:
            if self._memory is not None:
                await self._memory.set_conversation(batch.conversation)
            self._conversation = batch.conversation
        last = batch.events[-1]
        if isinstance(last, Complete | Failed):
            self._ended(begin)
            await self._pool.tell(Verdict(last if isinstance(last, Failed) else None))
        await emit(batch.events)

    async def _recall(self) -> None:
        """Take up what is remembered, once: what was known when the caller asked may be old by now."""
        if not self._recalled and self._memory is not None:
            self._conversation = await self._memory.conversation()
            self._recalled = True

    def _begin(self, begin: Begin) -> None:
        self._current = begin
        self._begun += 1

    def _ended(self, begin: Begin) -> None:
        if self._current is begin:
            self._current = None

    async def _end_unused(self) -> None:
        begun = self._begun
        await trio.sleep(UNUSED)
        if self._begun == begun and self._runner is None:
            self.end()


async def _start(runner: Ref, turn: Turn) -> Replies[Batch]:
    try:
        return await runner.stream(turn)
    except ActorDied:
        raise Refusal(Code.CRASHED, "the agent's process ended before the turn began") from None
