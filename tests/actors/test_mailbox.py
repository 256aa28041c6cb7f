from contextlib import closing

import pytest
import trio

from actors.actor import Actor
from actors.errors import ActorDied, Code, Refusal
from actors.mailbox import Ask, Envelope, Mailbox, Reply, Stream, Tell
from tests.actors.support import running, settle


class Add(Tell, frozen=True):
    amount: int


class Total(Ask[int], frozen=True):
    pass


class Slow(Ask[int], frozen=True):
    pass


class Crash(Ask[None], frozen=True):
    pass


class Deny(Ask[None], frozen=True):
    pass


class Count(Stream[int], frozen=True):
    upto: int
    fails: bool = False
    refused: bool = False


class Counter(Actor):
    def __init__(self):
        super().__init__()
        self.total = 0
        self.go = trio.Event()
        self.emitted = []
        self.outcome = None

    async def receive(self, message):
        match message:
            case Add(amount=amount):
                self.total += amount
                return None
            case Total():
                return self.total
            case Slow():
                await self.go.wait()
                self.total += 1
                return self.total
            case Deny():
                raise Refusal(Code.FORBIDDEN, "no")
            case _:
                raise RuntimeError("crash")

    async def admit(self, message):
        if message.refused:
            raise Refusal(Code.NOT_FOUND, "no such thing")

    async def produce(self, message, emit):
        try:
            for number in range(message.upto):
                await emit(number)
                self.emitted.append(number)
            if message.fails:
                raise ValueError("half way")  # noqa: TRY301 - it has to pass the clauses below
            self.outcome = "finished"
        except trio.Cancelled:
            self.outcome = "cancelled"
            raise
        except BaseException as error:
            self.outcome = repr(error)
            raise


@pytest.fixture
def counter():
    return Counter()


# Tell.


async def test_a_tell_is_handled_in_order_and_answers_nothing(counter, autojump_clock):
    async with running(counter) as one:
        assert await one.ref.tell(Add(2)) is None
        await one.ref.tell(Add(3))
        assert await one.ref.ask(Total()) == 5


async def test_a_tell_waits_for_room_in_a_full_mailbox(autojump_clock):
    mailbox = Mailbox("full", capacity=1)
    await mailbox.ref.tell(Add(1))
    with trio.move_on_after(1) as patience:
        await mailbox.ref.tell(Add(2))
    assert patience.cancelled_caught
    async with trio.open_nursery() as nursery:
        nursery.start_soon(mailbox.ref.tell, Add(3))
        await settle()
        assert (await mailbox.get()).message == Add(1)
        assert (await mailbox.get()).message == Add(3), "the one that gave up left nothing behind"


async def test_a_tell_that_waits_for_room_is_told_of_the_actors_end(autojump_clock):
    mailbox = Mailbox("full", capacity=1)
    await mailbox.ref.tell(Add(1))
    died = []

    async def tell():
        with pytest.raises(ActorDied) as caught:
            await mailbox.ref.tell(Add(2))
        died.append(caught.value)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(tell)
        await settle()
        mailbox.close()
    assert len(died) == 1


# Ask.


async def test_an_ask_returns_the_answer_even_if_it_is_none_or_false(autojump_clock):
    reply = Reply()
    reply.answer(None)
    assert await reply.wait() is None


async def test_a_refusal_reaches_the_asker_as_it_is(counter, autojump_clock):
    async with running(counter) as one:
        with pytest.raises(Refusal, match="no") as caught:
            await one.ref.ask(Deny())
        assert caught.value.code is Code.FORBIDDEN


async def test_a_crash_reaches_the_asker_as_actor_died(counter, autojump_clock):
    async with running(counter) as one:
        with pytest.raises(ActorDied):
            await one.ref.ask(Crash())


async def test_the_answer_to_an_asker_who_left_is_dropped_and_the_message_handled(counter, autojump_clock):
    async with running(counter) as one:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(one.ref.ask, Slow())
            await settle()
            nursery.cancel_scope.cancel()
        counter.go.set()
        assert await one.ref.ask(Total()) == 1


async def test_an_ask_or_a_stream_to_a_full_mailbox_is_refused_at_once(autojump_clock):
    mailbox = Mailbox("full", capacity=1)
    await mailbox.ref.tell(Add(1))
    for call in (mailbox.ref.ask(Total()), mailbox.ref.stream(Count(1))):
        with pytest.raises(Refusal) as caught:
            await call
        assert caught.value.code is Code.BUSY
        assert caught.value.retry_after


# Stream.


async def test_a_stream_is_iterated_to_its_end(counter, autojump_clock):
    async with running(counter) as one:
        with closing(await one.ref.stream(Count(3))) as numbers:
            assert [number async for number in numbers] == [0, 1, 2]
            assert [number async for number in numbers] == [], "and its end is an end for good"


async def test_a_stream_that_is_refused_is_refused_before_anything_else(counter, autojump_clock):
    async with running(counter) as one:
        with pytest.raises(Refusal) as caught:
            await one.ref.stream(Count(3, refused=True))
        assert caught.value.code is Code.NOT_FOUND
        assert counter.outcome is None


async def test_a_producer_is_at_most_two_answers_ahead_of_its_reader(counter, autojump_clock):
    async with running(counter) as one:
        with closing(await one.ref.stream(Count(100))) as numbers:
            await settle()
            assert counter.emitted == [0]
            assert await numbers.next() == 0


async def test_when_the_reader_leaves_the_work_is_cancelled_and_sees_no_other_exception(
    counter, autojump_clock
):
    async with running(counter) as one:
        with closing(await one.ref.stream(Count(100))) as numbers:
            await numbers.next()
        await numbers.wait_ended()
        assert counter.outcome == "cancelled"
        assert await one.ref.ask(Total()) == 0, "the actor lives on"


async def test_a_reader_who_leaves_before_acceptance_leaves_no_work_behind(counter, autojump_clock):
    async with running(counter) as one:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(one.ref.ask, Slow())
            await settle()
            nursery.start_soon(one.ref.stream, Count(100))
            await settle()
            nursery.cancel_scope.cancel()
        counter.go.set()
        await settle()
        assert counter.outcome in {"cancelled", None}
        assert len(counter.nursery.child_tasks) == 0


async def test_a_stream_that_fails_is_never_a_silent_end(counter, autojump_clock):
    async with running(counter) as one:
        with closing(await one.ref.stream(Count(2, fails=True))) as numbers:
            seen = []
            with pytest.raises(ActorDied, match="half way") as caught:  # noqa: PT012 - what came before counts
                async for number in numbers:
                    seen.append(number)  # noqa: PERF401 - it ends by an exception
            assert seen == [0, 1], "what came before it is delivered"
            assert isinstance(caught.value.__cause__, ValueError), "the reader's log can say why"


async def test_when_the_actor_crashes_its_streams_raise(counter, autojump_clock):
    async with running(counter) as one:
        with closing(await one.ref.stream(Count(100))) as numbers:
            await numbers.next()
            with pytest.raises(ActorDied):
                await one.ref.ask(Crash())
            with pytest.raises(ActorDied):
                async for _ in numbers:
                    pass


async def test_next_raises_when_there_is_none(counter, autojump_clock):
    async with running(counter) as one:
        with (
            closing(await one.ref.stream(Count(0))) as numbers,
            pytest.raises(ActorDied, match="ended early"),
        ):
            await numbers.next()


async def test_close_is_synchronous_and_works_in_a_cancelled_task(counter, autojump_clock):
    async with running(counter) as one:
        replies = []

        async def read():
            replies.append(await one.ref.stream(Count(100)))
            try:
                await trio.sleep_forever()
            finally:
                replies[0].close()
                replies[0].close()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            await settle()
            nursery.cancel_scope.cancel()
        with trio.fail_after(1):
            await replies[0].wait_ended()
        assert counter.outcome == "cancelled"


# The end of the actor.


async def test_everyone_who_waits_is_answered_when_the_actor_ends(counter, autojump_clock):
    died = []

    async def expect_death(call, *args):
        with pytest.raises(ActorDied):
            await call(*args)
        died.append(call)

    async with running(counter) as one, trio.open_nursery() as nursery:
        nursery.start_soon(expect_death, one.ref.ask, Slow())
        await settle()
        nursery.start_soon(expect_death, one.ref.ask, Total())
        nursery.start_soon(expect_death, one.ref.stream, Count(1))
        await settle()
        one.child.shutdown = 0
        await one.child.stop()
    assert len(died) == 3


async def test_after_the_actors_end_every_call_raises(autojump_clock):
    mailbox = Mailbox("late")
    assert mailbox.ref.alive
    mailbox.close()
    assert not mailbox.ref.alive
    for call in (mailbox.ref.tell(Add(1)), mailbox.ref.ask(Total()), mailbox.ref.stream(Count(1))):
        with pytest.raises(ActorDied):
            await call


async def test_the_mailbox_counts_what_waits(autojump_clock):
    mailbox = Mailbox("deep")
    assert mailbox.depth == 0
    await mailbox.put(Envelope(Add(1)))
    assert mailbox.depth == 1
