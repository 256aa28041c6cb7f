from contextlib import closing

import pytest
import trio

from actors.errors import Code, Refusal
from actors.limiter import Drain, Limiter, Take, WaitIdle
from actors.telemetry import QueueLevel
from tests.actors.support import CancelAtStep, Records, running, settle


async def hold(ref, held, name, done):
    """Take a place, say so, and give it back when told."""
    with closing(await ref.stream(Take("me"))) as permit:
        await permit.next()
        held.append(name)
        await done.wait()


async def test_only_so_many_run_at_once_and_the_next_gets_the_place_that_is_given_back(autojump_clock):
    done = [trio.Event() for _ in range(4)]
    held = []
    async with running(Limiter(2, 10, Records())) as one, trio.open_nursery() as nursery:
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


async def test_beyond_the_line_it_refuses_at_once(autojump_clock):
    held, done = [], trio.Event()
    async with running(Limiter(1, 1, Records())) as one, trio.open_nursery() as nursery:
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
        async with running(Limiter(3, 2, Records())) as one:
            async with trio.open_nursery() as nursery:
                for _ in range(30):
                    nursery.start_soon(take, one.ref)
            assert (len(accepted), len(refused)) == (5, 25)
            for replies in accepted:
                replies.close()


async def test_without_a_line_a_free_place_is_still_granted(autojump_clock):
    async with running(Limiter(1, 0, Records())) as one:
        with closing(await one.ref.stream(Take("me"))) as permit:
            await permit.next()
            with pytest.raises(Refusal):
                await one.ref.stream(Take("me"))
        await settle()
        with closing(await one.ref.stream(Take("me"))) as permit:
            await permit.next()


async def test_draining_it_takes_nobody_new_and_lets_those_in_line_go_on(autojump_clock):
    held, done = [], trio.Event()
    async with running(Limiter(1, 1, Records())) as one, trio.open_nursery() as nursery:
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
    async with running(Limiter(1, 1, Records())) as one:
        with closing(await one.ref.stream(WaitIdle())) as idle, trio.fail_after(1):
            await idle.next()


async def test_it_is_idle_only_when_nobody_runs_and_nobody_waits(autojump_clock):
    held, done = [], [trio.Event() for _ in range(3)]
    async with running(Limiter(2, 1, Records())) as one, trio.open_nursery() as nursery:
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
    async with running(Limiter(1, 5, records)) as one:
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
        async with running(Limiter(1, 5, records)) as one:
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
