"""The actor: private state, one message at a time, and streams that run beside the loop.

Override the hooks you need:

    started   before the first message
    receive   one `Tell` or `Ask`; returns the answer. Must be quick: it may not wait for anything slow
    admit     one `Stream`; returning accepts it, a `Refusal` turns it down. Must be quick as well
    produce   the work of an accepted stream, in a task of its own; `emit` hands out one answer
    stopping  the last chance to leave things in order; bounded by the child's `shutdown` seconds

Three outcomes of a message: an answer; a `Refusal` (an expected no: the actor lives on); anything else is a crash
(the asker gets `ActorDied`, the supervisor decides). A failing `produce` ends its own stream only.
"""

from collections.abc import Callable
from typing import Any

import trio

from actors.errors import ActorDied, Refusal
from actors.mailbox import Ask, Emit, Envelope, Mailbox, Ref, Replies, Stream, Tell
from actors.telemetry import Observer, StreamFailed


class Ping(Ask[None], frozen=True):
    """Answered by every actor's loop itself: is it still turning?"""


class Actor:
    """The base of all actors. An instance is one incarnation: it is never run twice."""

    nursery: trio.Nursery
    ref: Ref

    def __init__(self) -> None:
        self._wait = trio.CancelScope()
        self._ending = False

    async def started(self) -> None:
        """Prepare, before the first message."""

    async def receive(self, message: Tell | Ask[Any]) -> object:
        """Handle one message and return its answer."""
        raise TypeError(f"{type(self).__name__} does not take {type(message).__name__}")

    async def admit(self, message: Stream[Any]) -> None:
        """Accept a stream by returning, or raise a `Refusal`."""
        raise TypeError(f"{type(self).__name__} does not take {type(message).__name__}")

    async def produce(self, message: Stream[Any], emit: Emit[Any]) -> None:
        """Do the work of an accepted stream."""

    async def stopping(self) -> None:
        """Leave things in order."""

    def end(self) -> None:
        """Leave the loop after the message in hand. Safe to call from any task, and more than once."""
        self._ending = True
        self._wait.cancel()

    async def run(
        self, mailbox: Mailbox, observe: Observer, shutdown: float, up: Callable[[], None] = lambda: None
    ) -> None:
        """Handle the mailbox's messages until `end`, cancellation or a crash. `up` is called once it has started.

        `stopping` gets `shutdown` seconds.
        """
        self.ref = mailbox.ref
        async with trio.open_nursery() as self.nursery:
            try:
                await self.started()
                up()
                while (envelope := await self._next(mailbox)) is not None:
                    await self._answer(envelope, observe)
            finally:
                with trio.CancelScope(shield=True, deadline=trio.current_time() + shutdown):
                    await self.stopping()
            self.nursery.cancel_scope.cancel()

    async def _next(self, mailbox: Mailbox) -> Envelope | None:
        """Return the next message; None once `end` was called. Only this wait is cut short, never a handler."""
        envelope = None
        if not self._ending:
            with trio.CancelScope() as self._wait:
                envelope = await mailbox.get()
        return envelope

    async def _answer(self, envelope: Envelope, observe: Observer) -> None:
        try:
            await self._handle(envelope, observe)
        except Refusal as refusal:
            envelope.fail(refusal)
        except BaseException:
            envelope.fail(ActorDied(f"{self.ref.name} crashed while it handled the message"))
            raise

    async def _handle(self, envelope: Envelope, observe: Observer) -> None:
        match envelope:
            case Envelope(message=Stream() as message, replies=Replies() as replies):
                await self.admit(message)
                self.nursery.start_soon(self._produce, message, replies, observe)
                replies.accepted.answer(None)
            case Envelope(message=Ping(), reply=reply) if reply is not None:
                reply.answer(None)
            case Envelope(message=Ask() as message, reply=reply) if reply is not None:
                reply.answer(await self.receive(message))
            case Envelope(message=Tell() as message):
                await self.receive(message)
            case _:
                raise TypeError(f"{self.ref.name} was sent {envelope.message!r}")

    async def _produce(self, message: Stream[Any], replies: Replies[Any], observe: Observer) -> None:
        async def produce(emit: Emit[Any]) -> None:
            await self.produce(message, emit)

        failure = await replies.work(produce)
        if failure is not None:
            observe(StreamFailed(self.ref.name, type(message).__name__, repr(failure.__cause__)))
