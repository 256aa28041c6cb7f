"""When a session ends, and what it leaves behind."""

from contextlib import closing, suppress

import pytest
import trio

from actors.errors import ActorDied, Code, Refusal
from actors.lease import Close, Released
from actors.messages import Complete, Options
from actors.session import UNUSED
from tests.actors.session_world import Agent, World
from tests.actors.support import CancelAtStep, running, settle


async def test_it_ends_when_its_first_turn_cannot_begin(world, autojump_clock):
    async with world:
        world.pool.refusal = Refusal(Code.NOT_INSTALLED, "no such program")
        with pytest.raises(Refusal, match="no such program"):
            await world.turn()
        await world.session.ended.wait()
        assert trio.current_time() < 1


async def test_it_ends_when_nobody_uses_it(world, autojump_clock):
    async with world:
        await world.session.ended.wait()
        assert trio.current_time() == pytest.approx(UNUSED)


async def test_used_it_stays(world, autojump_clock):
    async with world:
        await world.turn()
        await trio.sleep(100 * UNUSED)
        assert not world.session.ended.is_set()


async def test_released_by_the_pool_it_ends(world, autojump_clock):
    async with world:
        await world.turn()
        await world.session.ref.tell(Released(world.runner, died=False))
        await world.session.ended.wait()
        assert trio.current_time() < 1


async def test_a_release_by_a_runner_it_has_left_means_nothing(world, autojump_clock):
    async with world:
        await world.turn()
        async with running(Agent()) as other:
            await world.session.ref.tell(Released(other.ref, died=False))
            await trio.sleep(2 * UNUSED)
        assert not world.session.ended.is_set()


async def test_when_its_runner_died_it_can_be_resumed_for_a_while(world, autojump_clock):
    async with world:
        await world.turn()
        await world.session.ref.tell(Released(world.runner, died=True))
        await trio.sleep(UNUSED - 1)
        await world.turn("again")
        assert world.pool.leases[-1].resume == "conv"
        await trio.sleep(2 * UNUSED)
        assert not world.session.ended.is_set(), "it is live again"


@pytest.mark.parametrize("when", ["idle", "in a turn"])
async def test_when_its_runner_died_and_nobody_comes_back_it_ends(world, when, autojump_clock):
    async with world:
        await world.turn()
        if when == "in a turn":
            world.agent.ends = None
            with closing(await world.begin()) as batches:
                await batches.next()
                await world.session.ref.tell(Released(world.runner, died=True))
                await settle()
                assert not world.session.ended.is_set()
        else:
            await world.session.ref.tell(Released(world.runner, died=True))
        await world.session.ended.wait()
        assert trio.current_time() == pytest.approx(UNUSED, abs=2)


@pytest.mark.parametrize("how", ["finished", "cancelled"])
async def test_an_ephemeral_one_closes_after_its_turn_however_it_went(how, autojump_clock):
    async with World(Options(ephemeral=True)) as world:
        world.agent.ends = Complete("end_turn") if how == "finished" else None
        with closing(await world.begin()) as batches:
            await batches.next()
            if how == "finished":
                assert await batches.next() == [Complete("end_turn")]
        await world.session.ended.wait()
        await settle()
        assert world.pool.told[-1] == Close("ses_1")
        assert world.pool.open == 0


async def test_an_ephemeral_one_takes_no_second_turn(autojump_clock):
    async with World(Options(ephemeral=True)) as world:
        world.agent.wind_down = 1.0
        with closing(await world.begin()) as batches:
            while not isinstance((await batches.next())[-1], Complete):
                pass
            with pytest.raises(Refusal) as caught:
                await world.begin()
        assert caught.value.code is Code.NOT_FOUND


async def test_stopped_in_a_turn_it_lets_the_agent_let_go(world, autojump_clock):
    async with world:
        world.agent.ends = None
        with closing(await world.begin()) as batches:
            await batches.next()
            await world.session.child.stop()
            await settle()
            assert (world.agent.interrupted, world.agent.running, world.pool.open) == (1, 0, 0)
            with pytest.raises(ActorDied):
                await batches.next()


async def test_a_turn_cancelled_at_any_step_leaves_the_session_ready_and_the_runner_free(autojump_clock):
    step, reached = 0, True
    while reached:
        step += 1
        async with World() as world:
            await world.turn("first")
            async with trio.open_nursery() as nursery:
                with CancelAtStep(nursery.cancel_scope, step) as cancel:
                    nursery.start_soon(world.turn)
                    await settle()
                reached = cancel.reached
            await trio.sleep(1.5)
            assert (world.agent.running, world.pool.open) == (0, 0)
            with suppress(Refusal), trio.fail_after(5):
                assert len(await world.turn("last")) == 2
            assert world.agent.turns[-1].prompt.text == "last"
            assert world.records == []
    assert step > 15
