import itertools
from contextlib import closing

import pytest
import trio

from actors.bucket import Rate
from actors.errors import Code, Refusal
from actors.limiter import Adjust, CallerLimits, Count, Drain, IsWanted, Limiter, Limits, Take, WaitIdle
from actors.telemetry import QueueLevel
from tests.actors.support import CancelAtStep, Records, running, settle


async def hold(ref, held, name, done, caller="me"):
    """Take a place, say so, and give it back when told."""
    with closing(await ref.stream(Take(caller))) as permit:
        await permit.next()
        held.append(name)
        await done.wait()


async def test_only_so_many_run_at_once_and_the_next_gets_the_place_that_is_given_back(autojump_clock):
    done = [trio.Event() for _ in range(4)]
    held = []
    async with running(Limiter(Limits(2, 10), Records())) as one, trio.open_nursery() as nursery:
        for name in range(4):
            nursery.start_soon(hold, one.ref, held, name, done[name])
            await settle()
        assert held == [0, 1]
        done[1].set()
        await settle()
        assert held == [0, 1, 2], "first come, first served"
        for event in done:
            event.set()
    assert held == [0, 1, 2, 3]


async def test_a_place_is_wanted_by_whoever_would_get_it(autojump_clock):
    done = trio.Event()
    limits = Limits(3, 10, each=CallerLimits(concurrent=2))
    async with running(Limiter(limits, Records())) as one, trio.open_nursery() as nursery:

        async def wanted():
            await settle()
            return [await one.ref.ask(IsWanted(caller)) for caller in ("me", "you", "nobody")]

        for name in range(2):
            nursery.start_soon(hold, one.ref, [], name, done, "me")
        assert await wanted() == [False, False, False]
        nursery.start_soon(hold, one.ref, [], "beyond my own limit", done, "me")
        assert await wanted() == [True, False, False]
        for name in range(2):
            nursery.start_soon(hold, one.ref, [], name, done, "you")
        assert await wanted() == [True, True, True], "the last place is taken, and one of yours waits"
        done.set()


async def test_beyond_the_line_it_refuses_at_once(autojump_clock):
    held, done = [], trio.Event()
    async with running(Limiter(Limits(1, 1), Records())) as one, trio.open_nursery() as nursery:
        for name in range(2):
            nursery.start_soon(hold, one.ref, held, name, done)
            await settle()
        with pytest.raises(Refusal) as caught:
            await one.ref.stream(Take("me"))
        assert caught.value.code is Code.BUSY
        assert caught.value.retry_after
        done.set()


async def test_a_burst_gets_exactly_the_places_and_the_line_never_one_more(autojump_clock):
    accepted, refused = [], []

    async def take(ref):
        try:
            accepted.append(await ref.stream(Take("me")))
        except Refusal:
            refused.append(1)

    for _ in range(20):
        accepted.clear()
        refused.clear()
        async with running(Limiter(Limits(3, 2), Records())) as one:
            async with trio.open_nursery() as nursery:
                for _ in range(30):
                    nursery.start_soon(take, one.ref)
            assert (len(accepted), len(refused)) == (5, 25)
            for replies in accepted:
                replies.close()


async def test_without_a_line_a_free_place_is_still_granted(autojump_clock):
    async with running(Limiter(Limits(1, 0), Records())) as one:
        with closing(await one.ref.stream(Take("me"))) as permit:
            await permit.next()
            with pytest.raises(Refusal):
                await one.ref.stream(Take("me"))
        await settle()
        with closing(await one.ref.stream(Take("me"))) as permit:
            await permit.next()


async def test_draining_it_takes_nobody_new_and_lets_those_in_line_go_on(autojump_clock):
    held, done = [], trio.Event()
    async with running(Limiter(Limits(1, 1), Records())) as one, trio.open_nursery() as nursery:
        for name in range(2):
            nursery.start_soon(hold, one.ref, held, name, done)
            await settle()
        await one.ref.tell(Drain())
        with pytest.raises(Refusal) as caught:
            await one.ref.stream(Take("me"))
        assert caught.value.code is Code.DRAINING
        done.set()
    assert held == [0, 1]


async def test_it_is_idle_at_once_when_nobody_runs(autojump_clock):
    async with running(Limiter(Limits(1, 1), Records())) as one:
        with closing(await one.ref.stream(WaitIdle())) as idle, trio.fail_after(1):
            await idle.next()


async def test_it_is_idle_only_when_nobody_runs_and_nobody_waits(autojump_clock):
    held, done = [], [trio.Event() for _ in range(3)]
    async with running(Limiter(Limits(2, 1), Records())) as one, trio.open_nursery() as nursery:
        for name in range(3):
            nursery.start_soon(hold, one.ref, held, name, done[name])
            await settle()
        with closing(await one.ref.stream(WaitIdle())) as idle:
            for event in done:
                with trio.move_on_after(1) as patience:
                    await idle.next()
                assert patience.cancelled_caught
                event.set()
            with trio.fail_after(1):
                await idle.next()


async def test_what_it_reports_is_what_there_is(autojump_clock):
    records = Records()
    held, done = [], trio.Event()
    async with running(Limiter(Limits(1, 5), records)) as one:
        async with trio.open_nursery() as nursery:
            for name in range(3):
                nursery.start_soon(hold, one.ref, held, name, done)
                await settle()
            assert records[-1] == QueueLevel(1, 2)
            nursery.cancel_scope.cancel()
        await settle()
    assert records[-1] == QueueLevel(0, 0)


async def test_cancelled_at_any_step_a_taker_gives_its_place_back(autojump_clock):
    step = 0
    reached = True
    while reached:
        step += 1
        done = trio.Event()
        done.set()
        records = Records()
        async with running(Limiter(Limits(1, 5), records)) as one:
            with closing(await one.ref.stream(Take("first"))) as permit:
                await permit.next()
                async with trio.open_nursery() as nursery:
                    with CancelAtStep(nursery.cancel_scope, step) as cancel:
                        nursery.start_soon(hold, one.ref, [], "second", done)
                        await settle()
                        permit.close()
                        await settle()
                reached = cancel.reached
            await settle()
            assert not records or records[-1] == QueueLevel(0, 0)
            with closing(await one.ref.stream(Take("third"))) as permit, trio.fail_after(1):
                await permit.next()
    assert step > 5


# Fairness among callers.


async def keep_running(ref, caller, took, ran, pace=trio.sleep):
    """Run one run after the other, each for `took` seconds, and count them."""
    while True:
        with closing(await ref.stream(Take(caller))) as permit:
            await permit.next()
            await pace(took)
        ran[caller] = ran.get(caller, 0) + 1


async def test_a_newcomer_waits_for_one_place_whatever_a_greedy_caller_has_in_line(autojump_clock):
    held, done = [], [trio.Event() for _ in range(8)]
    async with running(Limiter(Limits(2, 10), Records())) as one, trio.open_nursery() as nursery:
        for number in range(8):
            nursery.start_soon(hold, one.ref, held, number, done[number], "greedy")
            await settle()
        gone = trio.Event()
        nursery.start_soon(hold, one.ref, held, "newcomer", gone, "other")
        await settle()
        assert held == [0, 1]
        done[0].set()
        await settle()
        assert held == [0, 1, "newcomer"], "the first place that is given back is the newcomer's"
        for event in (*done, gone):
            event.set()


async def test_a_full_line_makes_room_for_a_newcomer_at_the_cost_of_who_holds_most(autojump_clock):
    async with running(Limiter(Limits(1, 4), Records())) as one:
        greedy = [await one.ref.stream(Take("greedy")) for _ in range(5)]
        newcomer = await one.ref.stream(Take("other"))
        with pytest.raises(Refusal) as dropped:
            await greedy[-1].next()
        assert dropped.value.code is Code.BUSY
        with pytest.raises(Refusal):
            await one.ref.stream(Take("greedy"))
        await greedy[0].next()
        greedy[0].close()
        with trio.fail_after(1):
            await newcomer.next()
        for permit in (*greedy, newcomer):
            permit.close()


async def test_no_caller_has_more_runs_at_once_than_it_may(autojump_clock):
    own = {"bounded": CallerLimits(concurrent=2)}
    held, done = [], trio.Event()
    async with running(Limiter(Limits(8, 20, own=own), Records())) as one, trio.open_nursery() as nursery:
        for name in range(5):
            nursery.start_soon(hold, one.ref, held, name, done, "bounded")
            await settle()
        nursery.start_soon(hold, one.ref, held, "free", done, "other")
        await settle()
        assert held == [0, 1, "free"], "others go on beside it"
        await one.ref.tell(Adjust(CallerLimits(), {"bounded": CallerLimits(concurrent=4)}))
        await settle()
        assert {*held[3:]} == {2, 3}, "a limit that is raised is raised at once"
        done.set()


async def test_who_waits_too_long_is_refused(autojump_clock):
    async with running(Limiter(Limits(1, 4, patience=5), Records())) as one:
        with closing(await one.ref.stream(Take("me"))) as permit:
            await permit.next()
            began = trio.current_time()
            with closing(await one.ref.stream(Take("me"))) as late, pytest.raises(Refusal) as refused:
                await late.next()
            assert (refused.value.code, trio.current_time() - began) == (Code.BUSY, 5)
            await trio.sleep(60)  # a run in hand is bounded by others
        with closing(await one.ref.stream(Take("me"))) as permit:
            await permit.next()


async def test_twenty_callers_share_the_places_evenly_however_many_runs_each_has_in_line(autojump_clock):
    ran = {}
    async with running(Limiter(Limits(5, 500), Records())) as one, trio.open_nursery() as nursery:
        for number in range(20):
            for _ in range(1 + number):  # the last one has twenty times as many at hand as the first
                nursery.start_soon(keep_running, one.ref, f"caller {number}", 0.1, ran)
        await trio.sleep(60)
        nursery.cancel_scope.cancel()
    share = 5 * 60 / 0.1 / 20
    assert all(abs(count - share) <= 0.05 * share for count in ran.values()), ran
    assert len(ran) == 20


async def test_twenty_callers_at_different_rates_get_their_share_and_never_more(autojump_clock):
    rates = {f"caller {number}": 0.5 * number for number in range(1, 21)}
    own = {caller: CallerLimits(rate=Rate(rate, 1)) for caller, rate in rates.items()}
    passed = {caller: [] for caller in rates}

    async def ask_twice_as_often(ref, caller):
        while True:
            if (await ref.ask(Count(caller))).retry_after is None:
                passed[caller].append(trio.current_time())
            await trio.sleep(0.5 / rates[caller])

    async def ask_greedily(ref, caller):
        while True:
            standing = await ref.ask(Count(caller))
            if standing.retry_after is None:
                passed[caller].append(trio.current_time())
            await trio.sleep(standing.retry_after or 0)

    async with running(Limiter(Limits(1, 1, own=own), Records())) as one, trio.open_nursery() as nursery:
        for number, caller in enumerate(rates):
            nursery.start_soon(ask_greedily if number % 2 else ask_twice_as_often, one.ref, caller)
        await trio.sleep(60)
        nursery.cancel_scope.cancel()
    for caller, rate in rates.items():
        times = passed[caller]
        assert abs(len(times) - 60 * rate) <= max(0.05 * 60 * rate, 1), caller
        # In no window does anyone pass more often than the bucket allows.
        assert all(later - earlier >= 1 / rate - 1e-5 for earlier, later in itertools.pairwise(times))


async def test_a_new_one_begins_with_full_buckets(autojump_clock):
    """What it counted is forgotten with it: buckets are full again."""
    own = {"me": CallerLimits(rate=Rate(1, 1))}
    for _ in range(2):
        async with running(Limiter(Limits(1, 1, own=own), Records())) as one:
            assert (await one.ref.ask(Count("me"))).retry_after is None
            assert (await one.ref.ask(Count("me"))).retry_after == pytest.approx(1)
