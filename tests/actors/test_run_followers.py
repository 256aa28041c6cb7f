"""Followers come and go."""

from contextlib import closing

import pytest
import trio

from actors.errors import Code
from actors.messages import Complete
from actors.run import Follow
from actors.telemetry import RunEnded
from tests.actors.runs import DETACHED, a_run, complete, follow, forever, say
from tests.actors.support import CancelAtStep, Records, running, settle


async def test_an_attached_run_is_cancelled_when_its_last_follower_has_gone_for_the_grace(autojump_clock):
    records = Records()
    async with running(a_run(forever, records=records)) as one:
        with closing(await one.ref.stream(Follow())) as pages:
            await pages.next()
            await trio.sleep(50)
        await one.ended.wait()
        assert trio.current_time() == pytest.approx(51)
    [ended] = records.of(RunEnded)
    assert ended.outcome == Code.CANCELLED


async def test_an_attached_run_that_nobody_ever_follows_is_cancelled(autojump_clock):
    async with running(a_run(forever)) as one:
        await one.ended.wait()
        assert trio.current_time() == pytest.approx(1)


async def test_the_last_of_several_followers_counts_in_whatever_order_they_leave(autojump_clock):
    async with running(a_run(forever)) as one:
        await settle()
        for _ in range(3):
            first = await one.ref.stream(Follow())
            await settle()
            second = await one.ref.stream(Follow())
            await trio.sleep(2)
            first.close()
            await trio.sleep(2)
            assert not one.ended.is_set(), "one is still there"
            first = await one.ref.stream(Follow())
            second.close()
            await trio.sleep(2)
            assert not one.ended.is_set()
            first.close()
            await trio.sleep(0.9)
        with trio.fail_after(1):
            await one.ended.wait()


async def test_coming_back_within_the_grace_keeps_it(autojump_clock):
    async with running(a_run(forever)) as one:
        for _ in range(5):
            with closing(await one.ref.stream(Follow())) as pages:
                await pages.next()
            await trio.sleep(0.9)
        assert not one.ended.is_set()


async def test_a_detached_run_goes_on_by_itself(autojump_clock):
    records = Records()

    async def long(recorder):
        await trio.sleep(50)
        await complete(recorder)

    async with running(a_run(long, identity=DETACHED, records=records)) as one:
        with closing(await one.ref.stream(Follow())):
            await trio.sleep(1)
        await one.ended.wait()
    assert records.of(RunEnded)[0].outcome == "complete"


async def test_a_detached_runs_follower_who_came_late_is_not_cut_off(autojump_clock):
    async def long(recorder):
        await trio.sleep(10)
        await say(recorder, *"abcdefgh")
        recorder.record([Complete("end_turn")])

    async with running(a_run(long, identity=DETACHED)) as one:
        await trio.sleep(5)
        with closing(await one.ref.stream(Follow())) as pages:
            await trio.sleep(60)
            entries = [entry async for page in pages for entry in page]
    assert len(entries) == 9


async def test_a_finished_run_goes_when_its_readers_have_gone(autojump_clock):
    async with running(a_run(complete)) as one:
        await follow(one.ref)
        await one.ended.wait()
        assert trio.current_time() == pytest.approx(1)
        assert one.error is None


async def test_a_follower_cancelled_at_any_step_is_not_counted_any_more(autojump_clock):
    step, reached = 0, True
    while reached:
        step += 1
        async with running(a_run(forever)) as one:
            async with trio.open_nursery() as nursery:
                with CancelAtStep(nursery.cancel_scope, step) as cancel:
                    nursery.start_soon(follow, one.ref)
                    await trio.sleep(0.5)
                reached = cancel.reached
                nursery.cancel_scope.cancel()
            with trio.fail_after(3):
                await one.ended.wait()
    assert step > 5
