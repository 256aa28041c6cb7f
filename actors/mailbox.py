"""Typed calls over a bounded channel.

    class Add(Tell, frozen=True):            # tell: no answer
        amount: int

    class Total(Ask[int], frozen=True):      # ask: one answer, of the type named here
        pass

    class Watch(Stream[int], frozen=True):   # stream: many answers, then an end
        pass

    await ref.tell(Add(2))
    total = await ref.ask(Total())
    with closing(await ref.stream(Watch())) as totals:
        async for total in totals: ...

| verb   | waits for                | if the actor crashes          | if the asker leaves                |
| tell   | room in the mailbox      | nothing                       | -                                  |
| ask    | the answer               | `ActorDied`                   | the answer is dropped              |
| stream | acceptance or `Refusal`  | iteration raises `ActorDied`  | the work behind it is cancelled    |

An ask or a stream never waits for room: a full mailbox is answered at once with `Refusal(BUSY)`, so a flood is told
to come back later instead of queueing without end.
"""

from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Generic, TypeVar

import trio
from msgspec import Struct

from actors.errors import ActorDied, Code, Refusal

R_co = TypeVar("R_co", covariant=True)
E_co = TypeVar("E_co", covariant=True)
A = TypeVar("A")

CAPACITY = 1024
"""Messages a mailbox holds."""


class Tell(Struct, frozen=True):
    """A message without an answer."""


class Ask(Struct, Generic[R_co], frozen=True):
    """A message with one answer of type R."""


class Stream(Struct, Generic[E_co], frozen=True):
    """A message answered by a stream of E."""


class Reply(Generic[A]):
    """The one answer to an ask: given once, waited for once."""

    def __init__(self) -> None:
        self._done = trio.Event()
        self._answer: tuple[A] | None = None
        self._failure: Exception | None = None

    def answer(self, value: A) -> None:
        """Give the answer."""
        self._answer = (value,)
        self._done.set()

    def fail(self, error: Exception) -> None:
        """Give `error` instead of an answer, unless one was given."""
        if not self._done.is_set():
            self._failure = error
            self._done.set()

    async def wait(self) -> A:
        """Return the answer, or raise what was given instead."""
        await self._done.wait()
        if self._answer is None:
            raise self._failure or ActorDied("no answer")
        return self._answer[0]


class Replies(Generic[A]):
    """The answers to a stream: iterate once, and close.

    `close` is synchronous, opens no nursery and enters no scope: it may be held across a `yield` and called from a
    cancelled task. Closing cancels the work behind the stream.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._send, self._receive = trio.open_memory_channel[A](1)
        self._work = trio.CancelScope()
        self._failure: Exception | None = None
        self._ended = trio.Event()
        self.accepted = Reply[None]()

    def close(self) -> None:
        """Stop listening, and cancel the work behind the stream."""
        self._work.cancel()
        self._receive.close()
        self.accepted.fail(ActorDied(f"the stream of {self._name} was closed"))

    async def wait_ended(self) -> None:
        """Wait until the work behind the stream is over, its cleanup included."""
        await self._ended.wait()

    def __aiter__(self) -> "Replies[A]":
        return self

    async def __anext__(self) -> A:
        with suppress(trio.EndOfChannel):
            return await self._receive.receive()
        raise self._failure or StopAsyncIteration

    async def next(self) -> A:
        """Return the next answer. Raises `ActorDied` if the stream ends without one."""
        try:
            return await self.__anext__()
        except StopAsyncIteration:
            raise ActorDied(f"the stream of {self._name} ended early") from None

    def fail(self, error: Exception) -> None:
        """End the stream before any work began."""
        self.accepted.fail(error)
        self._failure = error
        self._send.close()
        self._ended.set()

    async def work(self, produce: "Callable[[Emit[A]], Awaitable[None]]") -> Exception | None:
        """Run the work behind the stream to its end; return what it failed with, a `Refusal` aside."""
        failure: Exception | None = ActorDied(f"{self._name} ended in mid-stream")
        try:
            with self._work:
                await produce(self._send.send)
            failure = None
        except Refusal as refusal:
            failure = refusal
        except Exception as error:  # noqa: BLE001 - a failing stream ends for its reader only; the actor reports it
            failure = ActorDied(f"{self._name} failed in mid-stream: {error!r}")
            failure.__cause__ = error
        finally:
            self._failure = failure
            self._send.close()
            self._ended.set()
        return failure if isinstance(failure, ActorDied) else None


Emit = Callable[[A], Awaitable[None]]
"""Hands one answer to the reader, waiting until there is room for it."""


class Envelope(Struct, frozen=True):
    """A message and where its answer goes."""

    message: Tell | Ask[Any] | Stream[Any]
    reply: Reply[Any] | None = None
    replies: Replies[Any] | None = None

    def fail(self, error: Exception) -> None:
        """Answer whoever waits with `error`."""
        if self.reply is not None:
            self.reply.fail(error)
        if self.replies is not None:
            self.replies.fail(error)


class Ref:
    """The address of an actor. It outlives restarts; after the actor's end every call raises `ActorDied`."""

    def __init__(self, mailbox: "Mailbox") -> None:
        self._mailbox = mailbox

    @property
    def name(self) -> str:
        """The actor's name."""
        return self._mailbox.name

    @property
    def alive(self) -> bool:
        """Whether the actor still takes messages."""
        return not self._mailbox.closed

    async def tell(self, message: Tell) -> None:
        """Send a message, waiting for room."""
        await self._mailbox.put(Envelope(message))

    async def ask(self, message: Ask[R_co]) -> R_co:
        """Send a message and return its answer. Raises `Refusal`, `ActorDied`."""
        reply = Reply[R_co]()
        self._mailbox.put_nowait(Envelope(message, reply=reply))
        return await reply.wait()

    async def stream(self, message: Stream[E_co]) -> Replies[E_co]:
        """Send a message and return its open stream once it is accepted. Raises `Refusal`, `ActorDied`."""
        replies = Replies[E_co](self.name)
        self._mailbox.put_nowait(Envelope(message, replies=replies))
        try:
            await replies.accepted.wait()
        except BaseException:
            replies.close()
            raise
        return replies


class Mailbox:
    """Where an actor's messages wait. Belongs to the child, not to one incarnation of its actor."""

    def __init__(self, name: str, capacity: int = CAPACITY) -> None:
        self.name = name
        self.ref = Ref(self)
        self.closed = False
        self._send, self._receive = trio.open_memory_channel[Envelope](capacity)

    @property
    def depth(self) -> int:
        """Messages waiting."""
        return self._send.statistics().current_buffer_used

    async def put(self, envelope: Envelope) -> None:
        """Add a message, waiting for room. Raises `ActorDied` after the actor's end."""
        try:
            await self._send.send(envelope)
        except (trio.ClosedResourceError, trio.BrokenResourceError):
            raise ActorDied(f"{self.name} has ended") from None

    def put_nowait(self, envelope: Envelope) -> None:
        """Add a message. Raises `Refusal(BUSY)` when full, `ActorDied` after the actor's end."""
        try:
            self._send.send_nowait(envelope)
        except trio.WouldBlock:
            raise Refusal(Code.BUSY, f"{self.name} has too many requests waiting", retry_after=1.0) from None
        except (trio.ClosedResourceError, trio.BrokenResourceError):
            raise ActorDied(f"{self.name} has ended") from None

    async def get(self) -> Envelope:
        """Return the next message."""
        return await self._receive.receive()

    def close(self) -> None:
        """The actor has ended for good: everyone who still waits here is answered."""
        self.closed = True
        self._send.close()
        while True:
            try:
                envelope = self._receive.receive_nowait()
            except (trio.EndOfChannel, trio.ClosedResourceError, trio.WouldBlock):
                break
            envelope.fail(ActorDied(f"{self.name} has ended"))
        self._receive.close()
