from contextlib import closing

import pytest
import trio

from actors.actor import Actor, Ping
from actors.errors import ActorDied, Code, Refusal
from actors.mailbox import Ask, Stream, Tell
from actors.telemetry import StreamFailed
from tests.actors.support import Records, leaves, running, settle


class Do(Ask[str], frozen=True):
    what: str


class Note(Tell, frozen=True):
    what: str


class Produce(Stream[int], frozen=True):
    what: str = "forever"


class Diary(Actor):
    """Does what it is told and writes down what happened."""

    def __init__(self, *, crash_at_start=False, stopping_time=0.0):
        super().__init__()
        self.pages = []
        self.go = trio.Event()
        self._crash_at_start = crash_at_start
        self._stopping_time = stopping_time

    async def started(self):
        await trio.lowlevel.checkpoint()
        if self._crash_at_start:
            raise RuntimeError("at start")
        self.pages.append("started")

    async def receive(self, message):
        self.pages.append(message.what)
        match message.what:
            case "refuse":
                raise Refusal(Code.FORBIDDEN, "no")
            case "crash":
                raise RuntimeError("crash")
            case "wait":
                await self.go.wait()
                self.pages.append("waited")
            case "end":
                self.end()
        return message.what

    async def admit(self, message):
        if message.what == "crash in admit":
            raise RuntimeError("in admit")

    async def produce(self, message, emit):
        await emit(1)
        if message.what == "fail":
            raise ValueError("in produce")
        if message.what == "refuse":
            raise Refusal(Code.TIMEOUT, "too late")
        try:
            await trio.sleep_forever()
        finally:
            self.pages.append("produce left")

    async def stopping(self):
        await trio.sleep(self._stopping_time)
        self.pages.append("stopped")


# The three outcomes of a message.


async def test_it_starts_before_the_first_message_and_stops_after_the_last(autojump_clock):
    diary = Diary()
    async with running(diary) as one:
        assert await one.ref.ask(Do("this")) == "this"
    assert diary.pages == ["started", "this", "stopped"]


async def test_a_refusal_keeps_it_alive(autojump_clock):
    async with running(Diary()) as one:
        with pytest.raises(Refusal):
            await one.ref.ask(Do("refuse"))
        await one.ref.tell(Note("refuse"))
        assert await one.ref.ask(Do("on")) == "on"


async def test_a_crash_ends_it_and_is_what_its_supervisor_gets(autojump_clock):
    diary = Diary()
    async with running(diary) as one:
        with pytest.raises(ActorDied):
            await one.ref.ask(Do("crash"))
        await one.ended.wait()
        assert [repr(leaf) for leaf in leaves(one.error)] == ["RuntimeError('crash')"]
        assert diary.pages[-1] == "stopped"
        assert not one.ref.alive


@pytest.mark.parametrize("message", [Produce("crash in admit"), Produce("fail")])
async def test_a_crash_in_admit_ends_it_a_crash_in_produce_does_not(message, autojump_clock):
    async with running(Diary()) as one:
        with pytest.raises(ActorDied), closing(await one.ref.stream(message)) as numbers:
            async for _ in numbers:
                pass
        await settle()
        assert one.ended.is_set() is (message.what == "crash in admit")


@pytest.mark.parametrize("message", [Do("x"), Produce()])
async def test_a_message_it_does_not_know_is_a_crash_and_not_silence(message, autojump_clock):
    async with running(Actor()) as one:
        with pytest.raises(ActorDied):
            await (one.ref.ask(message) if isinstance(message, Ask) else one.ref.stream(message))
        await one.ended.wait()
        assert [type(leaf) for leaf in leaves(one.error)] == [TypeError]


async def test_a_crash_at_the_start_answers_who_asked_already(autojump_clock):
    async with running(Diary(crash_at_start=True)) as one:
        with pytest.raises(ActorDied):
            await one.ref.ask(Do("anything"))
        assert one.ended.is_set()


async def test_a_stream_that_crashes_is_reported(autojump_clock):
    records = Records()
    async with running(Diary(), records) as one:
        with closing(await one.ref.stream(Produce("fail"))) as numbers:
            assert await numbers.next() == 1
            with pytest.raises(ActorDied):
                await numbers.next()
    assert records == [StreamFailed("diary", "Produce", "ValueError('in produce')")]


async def test_a_stream_that_is_refused_midway_is_told_so_and_not_reported(autojump_clock):
    records = Records()
    async with running(Diary(), records) as one:
        with closing(await one.ref.stream(Produce("refuse"))) as numbers:
            assert await numbers.next() == 1
            with pytest.raises(Refusal, match="too late"):
                await numbers.next()
    assert records == []


async def test_its_loop_answers_a_ping(autojump_clock):
    async with running(Actor()) as one:
        assert await one.ref.ask(Ping()) is None


# The end.


async def test_end_never_cuts_a_handler(autojump_clock):
    diary = Diary()
    async with running(diary) as one, trio.open_nursery() as nursery:
        nursery.start_soon(one.ref.ask, Do("wait"))
        await settle()
        diary.end()
        diary.end()
        await settle()
        assert not one.ended.is_set()
        diary.go.set()
        await one.ended.wait()
    assert diary.pages == ["started", "wait", "waited", "stopped"]
    assert one.error is None


async def test_end_leaves_the_message_after_the_one_in_hand(autojump_clock):
    diary = Diary()
    async with running(diary) as one:
        await one.ref.tell(Note("end"))
        with pytest.raises(ActorDied):
            await one.ref.ask(Do("too late"))
    assert diary.pages == ["started", "end", "stopped"]


async def test_ended_before_it_ran_it_still_starts_and_stops_in_order(autojump_clock):
    diary = Diary()
    diary.end()
    async with running(diary) as one:
        await one.ended.wait()
    assert diary.pages == ["started", "stopped"]


async def test_stopping_comes_before_the_streams_are_cut(autojump_clock):
    diary = Diary()
    async with running(diary) as one:
        with closing(await one.ref.stream(Produce())) as numbers:
            assert await numbers.next() == 1
            await one.child.stop()
            assert diary.pages == ["started", "stopped", "produce left"]
            with pytest.raises(ActorDied):
                await numbers.next()


@pytest.mark.parametrize("shutdown", [0.5, 7.0])
async def test_stopping_is_bounded_by_the_childs_shutdown_time(shutdown, autojump_clock):
    diary = Diary(stopping_time=1000)
    async with running(diary, shutdown=shutdown) as one:
        await settle()
        began = trio.current_time()
        await one.child.stop()
        assert trio.current_time() - began == pytest.approx(shutdown)
    assert "stopped" not in diary.pages


async def test_stopping_is_not_cut_by_the_cancellation_that_ends_the_actor(autojump_clock):
    diary = Diary(stopping_time=1)
    async with running(diary, shutdown=2) as one:
        await settle()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(one.child.stop)
            nursery.cancel_scope.cancel()
    assert diary.pages[-1] == "stopped"
