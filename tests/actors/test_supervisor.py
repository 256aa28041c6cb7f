from collections import Counter
from contextlib import suppress
from functools import partial

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.actor import Actor
from actors.errors import ActorDied, Code, Refusal
from actors.mailbox import Ask, Tell
from actors.supervisor import (
    Child,
    ChildSpec,
    Count,
    DynamicSupervisor,
    Find,
    Intensity,
    RestartsExhausted,
    Spawn,
    Strategy,
    Supervisor,
)
from actors.telemetry import ChildEnded
from tests.actors.support import CancelAtStep, Records, leaves, running, settle


class Crash(Tell, frozen=True):
    pass


class End(Tell, frozen=True):
    pass


class Hang(Tell, frozen=True):
    pass


class WhoAreYou(Ask[int], frozen=True):
    """Answered with the number of the incarnation."""


class Worker(Actor):
    """Writes its life down in a diary that all workers share."""

    def __init__(self, name, diary, *, slow_start=0.0, slow_stop=0.0, fails_to_stop=False):
        super().__init__()
        self.name = name
        self.diary = diary
        self.incarnation = sum(1 for line in diary if line == f"{name} made") + 1
        diary.append(f"{name} made")
        self._slow_start = slow_start
        self._slow_stop = slow_stop
        self._fails_to_stop = fails_to_stop

    async def started(self):
        await trio.sleep(self._slow_start)
        self.diary.append(f"{self.name} started")

    async def receive(self, message):
        match message:
            case Crash():
                raise RuntimeError(f"{self.name} crashed")
            case End():
                self.end()
            case Hang():
                await trio.sleep_forever()
        return self.incarnation

    async def stopping(self):
        await trio.sleep(self._slow_stop)
        if self._fails_to_stop:
            raise OSError("cannot stop")
        self.diary.append(f"{self.name} stopped")


def supervise(names, diary, records, strategy=Strategy.ONE_FOR_ONE, intensity=Intensity(), **how):  # noqa: B008
    specs = [ChildSpec(name, partial(Worker, name, diary, **how), shutdown=2.0) for name in names]
    return Supervisor(specs, records, strategy, intensity)


EDGE = 1e-9
"""What floating point may do to the edge of a window."""


def lives(diary, event):
    return [line.split()[0] for line in diary if line.endswith(event)]


# Start and stop.


async def test_children_start_in_order_each_after_the_one_before_has_started(autojump_clock):
    diary = []
    async with trio.open_nursery() as nursery:
        await nursery.start(supervise("abc", diary, Records(), slow_start=1).run)
        assert diary == [f"{name} {event}" for name in "abc" for event in ("made", "started")]
        assert trio.current_time() == pytest.approx(3)
        nursery.cancel_scope.cancel()


async def test_children_stop_in_reverse_order_each_after_the_one_before_is_gone(autojump_clock):
    diary = []
    async with trio.open_nursery() as nursery:
        await nursery.start(supervise("abc", diary, Records(), slow_stop=1).run)
        nursery.cancel_scope.cancel()
    assert lives(diary, "stopped") == ["c", "b", "a"]
    assert trio.current_time() == pytest.approx(3)


async def test_a_child_that_does_not_stop_in_time_is_cancelled(autojump_clock):
    supervisor = supervise("ab", [], Records())
    async with trio.open_nursery() as nursery:
        await nursery.start(supervisor.run)
        await supervisor.refs["a"].tell(Hang())
        await settle()
        nursery.cancel_scope.cancel()
    assert trio.current_time() == pytest.approx(2)


async def test_who_waits_for_an_answer_at_the_end_gets_one(autojump_clock):
    supervisor = supervise("ab", [], Records())
    died = []

    async def ask(name):
        with pytest.raises(ActorDied):
            await supervisor.refs[name].ask(WhoAreYou())
        died.append(name)

    async with trio.open_nursery() as asking, trio.open_nursery() as nursery:
        await nursery.start(supervisor.run)
        for name in "ab":
            await supervisor.refs[name].tell(Hang())
            asking.start_soon(ask, name)
        await settle()
        nursery.cancel_scope.cancel()
    assert sorted(died) == ["a", "b"]
    assert not any(ref.alive for ref in supervisor.refs.values())


async def test_a_crash_while_stopping_is_reported_and_keeps_nobody_from_stopping(autojump_clock):
    diary, records = [], Records()
    async with trio.open_nursery() as nursery:
        await nursery.start(supervise("ab", diary, records, fails_to_stop=True).run)
        nursery.cancel_scope.cancel()
    assert [(record.child, record.restarted) for record in records.of(ChildEnded)] == [
        ("b", False),
        ("a", False),
    ]


# Restarts.


@pytest.mark.parametrize(
    ("strategy", "again", "stopped"),
    [
        (Strategy.ONE_FOR_ONE, ["b"], []),
        (Strategy.REST_FOR_ONE, ["b", "c"], ["c"]),
        (Strategy.ONE_FOR_ALL, ["a", "b", "c"], ["c", "a"]),
    ],
)
async def test_a_crash_takes_along_whom_the_strategy_says(strategy, again, stopped, autojump_clock):
    diary, records = [], Records()
    supervisor = supervise("abc", diary, records, strategy)
    async with trio.open_nursery() as nursery:
        await nursery.start(supervisor.run)
        diary.clear()
        await supervisor.refs["b"].tell(Crash())
        await trio.sleep(1)
        assert lives(diary, "made") == again
        assert lives(diary, "stopped") == ["b", *stopped], (
            "the crashed one leaves first, the others in reverse"
        )
        [ended] = records.of(ChildEnded)
        assert (ended.child, ended.restarted) == ("b", True)
        assert [repr(leaf) for leaf in leaves(ended.error)] == ["RuntimeError('b crashed')"]
        nursery.cancel_scope.cancel()


async def test_an_orderly_end_is_no_reason_to_stay_away(autojump_clock):
    supervisor = supervise("a", [], Records())
    async with trio.open_nursery() as nursery:
        await nursery.start(supervisor.run)
        await supervisor.refs["a"].tell(End())
        assert await supervisor.refs["a"].ask(WhoAreYou()) == 2
        nursery.cancel_scope.cancel()


async def test_a_message_sent_while_it_restarts_is_answered_by_the_next_incarnation(autojump_clock):
    supervisor = supervise("a", [], Records())
    ref = supervisor.refs["a"]
    async with trio.open_nursery() as nursery:
        await nursery.start(supervisor.run)
        assert await ref.ask(WhoAreYou()) == 1
        await ref.tell(Crash())
        await ref.tell(Crash())
        assert await ref.ask(WhoAreYou()) == 3
        assert ref.alive
        nursery.cancel_scope.cancel()


async def test_a_message_sent_before_the_start_is_answered(autojump_clock):
    supervisor = supervise("a", [], Records())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(supervisor.run)
        assert await supervisor.refs["a"].ask(WhoAreYou()) == 1
        nursery.cancel_scope.cancel()


async def test_two_crashes_at_once_are_two_restarts(autojump_clock):
    records = Records()
    supervisor = supervise("ab", [], records)
    async with trio.open_nursery() as nursery:
        await nursery.start(supervisor.run)
        for name in "ab":
            await supervisor.refs[name].tell(Crash())
        for name in "ab":
            assert await supervisor.refs[name].ask(WhoAreYou()) == 2
        assert sorted(record.child for record in records) == ["a", "b"]
        nursery.cancel_scope.cancel()


async def test_a_crash_of_one_who_is_taken_along_is_reported_too(autojump_clock):
    records = Records()
    supervisor = supervise("ab", [], records, Strategy.ONE_FOR_ALL)
    async with trio.open_nursery() as nursery:
        await nursery.start(supervisor.run)
        for name in "ab":
            await supervisor.refs[name].tell(Crash())
        await trio.sleep(1)
        assert sorted(record.child for record in records) == ["a", "b"]
        assert await supervisor.refs["a"].ask(WhoAreYou()) == 2
        nursery.cancel_scope.cancel()


async def test_too_many_crashes_end_it_loudly_with_all_its_children_stopped(autojump_clock):
    diary, records = [], Records()
    supervisor = supervise("abc", diary, records, intensity=Intensity(2, 5.0))
    for _ in range(3):
        await supervisor.refs["b"].tell(Crash())
    with pytest.raises(RestartsExhausted, match="b ended 3 times within 5 s") as caught:
        await supervisor.run()
    assert [repr(leaf) for leaf in leaves(caught.value.__cause__)] == ["RuntimeError('b crashed')"]
    assert lives(diary, "stopped")[-2:] == ["c", "a"]
    assert [record.restarted for record in records.of(ChildEnded)] == [True, True, False]
    assert not any(ref.alive for ref in supervisor.refs.values())


async def test_a_child_that_cannot_be_made_is_a_crash_like_any_other(autojump_clock):
    def make():
        raise RuntimeError("no")

    with pytest.raises(RestartsExhausted):
        await Supervisor([ChildSpec("a", make)], Records()).run()


@settings(max_examples=60, deadline=None)
@given(
    most=st.integers(0, 3),
    window=st.sampled_from([1.0, 5.0]),
    pauses=st.lists(st.sampled_from([0.0, 0.1, 0.5, 1.0, 1.5, 3.0, 6.0]), max_size=15),
)
def test_there_are_never_more_restarts_in_any_window_than_the_intensity_allows(most, window, pauses):
    restarts, exhausted = [], []

    def observe(record):
        (restarts if record.restarted else exhausted).append(trio.current_time())

    async def main():
        supervisor = supervise("ab", [], observe, intensity=Intensity(most, window))
        with suppress(RestartsExhausted, ActorDied):
            async with trio.open_nursery() as nursery:
                await nursery.start(supervisor.run)
                for number, pause in enumerate(pauses):
                    await trio.sleep(pause)
                    await supervisor.refs["ab"[number % 2]].tell(Crash())
                await trio.sleep(20)
                nursery.cancel_scope.cancel()

    with suppress(BaseExceptionGroup):
        trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
    for start in restarts:
        inside = [at for at in restarts if start <= at < start + window - EDGE]
        assert len(inside) <= most
    if exhausted:
        last = exhausted[0]
        assert sum(1 for at in restarts if last - window - EDGE <= at) >= most, (
            "and it does not give up sooner"
        )
    else:
        assert len(restarts) == len(pauses)


# Cancellation.


async def test_cancelled_at_any_step_it_leaves_nothing_behind(autojump_clock):
    step, reached = 0, True
    while reached:
        step += 1
        diary = []
        supervisor = supervise("ab", diary, Records(), slow_start=0.01, slow_stop=0.01)
        with trio.fail_after(30):
            async with trio.open_nursery() as nursery:
                with CancelAtStep(nursery.cancel_scope, step) as cancel:
                    nursery.start_soon(supervisor.run)
                    with suppress(ActorDied):
                        await supervisor.refs["a"].tell(Crash())
                    await trio.sleep(1)
                    nursery.cancel_scope.cancel()
                reached = cancel.reached
        born, gone = Counter(lives(diary, "made")), Counter(lives(diary, "stopped"))
        assert born == gone
        assert not any(ref.alive for ref in supervisor.refs.values())
        assert step < 500
    assert step > 15


async def test_cancelled_just_when_it_starts_a_child_it_does_not_hang(autojump_clock):
    diary = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(supervise("ab", diary, Records()).run)
        nursery.cancel_scope.cancel()
    with trio.fail_after(1):
        await settle()
    assert Counter(lives(diary, "made")) == Counter(lives(diary, "stopped"))


async def test_a_child_stopped_before_its_first_step_never_runs(autojump_clock):
    diary = []
    child = Child("a", partial(Worker, "a", diary), 2.0)
    async with trio.open_nursery() as nursery:
        child.start(nursery, Records(), lambda _child, _error: None)
        await child.stop()
    assert diary == []
    assert trio.current_time() == 0


# The dynamic variant.


@pytest.fixture
def diary():
    return []


async def spawn(ref, name, diary, **how):
    return await ref.ask(Spawn(name, Worker(name, diary, **how)))


async def test_children_come_and_go_by_name(diary, autojump_clock):
    async with running(DynamicSupervisor("things", Records(), limit=9)) as one:
        child = await spawn(one.ref, "a", diary)
        assert await child.ask(WhoAreYou()) == 1
        assert await one.ref.ask(Find("a")) is child
        assert await one.ref.ask(Find("b")) is None
        assert await one.ref.ask(Count()) == 1
        await child.tell(End())
        await settle()
        assert await one.ref.ask(Find("a")) is None
        assert await one.ref.ask(Count()) == 0
        assert not child.alive


async def test_a_crash_ends_that_child_only_and_is_reported(diary, autojump_clock):
    records = Records()
    async with running(DynamicSupervisor("things", records, limit=9)) as one:
        crashing, other = await spawn(one.ref, "a", diary), await spawn(one.ref, "b", diary)
        await crashing.tell(Crash())
        await settle()
        assert [(record.child, record.restarted) for record in records] == [("a", False)]
        assert await one.ref.ask(Find("a")) is None
        assert await other.ask(WhoAreYou()) == 1
        with pytest.raises(ActorDied):
            await crashing.ask(WhoAreYou())


async def test_an_orderly_end_is_not_reported(diary, autojump_clock):
    records = Records()
    async with running(DynamicSupervisor("things", records, limit=9)) as one:
        await (await spawn(one.ref, "a", diary)).tell(End())
    assert records == []


async def test_beyond_the_limit_it_is_busy_until_one_has_gone(diary, autojump_clock):
    async with running(DynamicSupervisor("things", Records(), limit=1)) as one:
        child = await spawn(one.ref, "a", diary)
        with pytest.raises(Refusal) as caught:
            await spawn(one.ref, "b", diary)
        assert caught.value.code is Code.BUSY
        await child.tell(End())
        await settle()
        await spawn(one.ref, "b", diary)


async def test_a_name_is_given_once(diary, autojump_clock):
    async with running(DynamicSupervisor("things", Records(), limit=9)) as one:
        await spawn(one.ref, "a", diary)
        with pytest.raises(Refusal):
            await spawn(one.ref, "a", diary)


async def test_a_slow_start_of_one_child_keeps_no_other_waiting(diary, autojump_clock):
    async with running(DynamicSupervisor("things", Records(), limit=9)) as one:
        await spawn(one.ref, "slow", diary, slow_start=10)
        await (await spawn(one.ref, "quick", diary)).ask(WhoAreYou())
        assert trio.current_time() == 0


async def test_it_stops_its_children_side_by_side(diary, autojump_clock):
    async with running(DynamicSupervisor("things", Records(), limit=9), shutdown=9) as one:
        for name in "abc":
            await spawn(one.ref, name, diary, slow_stop=1)
        await settle()
        began = trio.current_time()
        await one.child.stop()
        assert trio.current_time() - began == pytest.approx(1)
    assert sorted(lives(diary, "stopped")) == ["a", "b", "c"]


async def test_a_child_that_does_not_stop_is_cancelled_after_its_time(diary, autojump_clock):
    async with running(DynamicSupervisor("things", Records(), limit=9, shutdown=1), shutdown=9) as one:
        await spawn(one.ref, "a", diary, slow_stop=1000)
        await settle()
        began = trio.current_time()
        await one.child.stop()
        assert trio.current_time() - began == pytest.approx(1)
    assert one.error is None


async def test_a_child_spawned_in_the_very_moment_of_the_stop_is_stopped_too(diary, autojump_clock):
    async with running(DynamicSupervisor("things", Records(), limit=9)) as one:
        child = await spawn(one.ref, "a", diary)
        await one.child.stop()
        assert not child.alive
        assert lives(diary, "made") == lives(diary, "stopped")
