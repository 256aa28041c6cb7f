"""A session's turns, one after another."""

from contextlib import closing

import pytest
import trio

from actors.errors import ActorDied, Code, Refusal
from actors.lease import Verdict
from actors.messages import Complete, Failed, Message
from actors.session import Describe
from tests.actors.session_world import Agent
from tests.actors.support import running, settle


async def test_a_turn_passes_on_the_agents_events_and_gives_the_runner_back(world, autojump_clock):
    async with world:
        assert await world.turn() == [Message("hello"), Complete("end_turn")]
        await settle()
        assert world.pool.open == 0
        assert await world.session.ref.ask(Describe()) is not None
        [turn] = world.agent.turns
        assert (turn.session, turn.resume) == ("ses_1", None)


async def test_the_next_turn_names_the_conversation_so_far(world, autojump_clock):
    async with world:
        await world.turn()
        await world.turn("again")
        assert [turn.resume for turn in world.agent.turns] == [None, "conv"]
        assert [lease.resume for lease in world.pool.leases] == [None, "conv"]


async def test_a_second_turn_while_one_is_in_hand_is_refused(world, autojump_clock):
    async with world:
        world.agent.ends = None
        with closing(await world.begin()):
            await settle()
            with pytest.raises(Refusal) as caught:
                await world.begin()
        assert caught.value.code is Code.SESSION_BUSY
        assert caught.value.param == "session_id"


async def test_a_turn_sent_right_after_the_last_event_is_not_refused_though_the_agent_winds_down(
    world, autojump_clock
):
    async with world:
        world.agent.wind_down = 1.5
        with closing(await world.begin()) as batches:
            async for batch in batches:
                if isinstance(batch[-1], Complete):
                    break
            assert world.agent.running == 1
            assert (await world.turn("at once"))[0] == Message("at once")


async def test_many_turns_in_a_row_are_never_refused(world, autojump_clock):
    async with world:
        world.agent.wind_down = 0.01
        for number in range(50):
            with closing(await world.begin(str(number))) as batches:
                while not isinstance((await batches.next())[-1], Complete):
                    pass
        await world.turn("last")
        texts = [turn.prompt.text for turn in world.agent.turns]
        assert texts == [*map(str, range(50)), "last"]


async def test_the_runner_is_given_back_only_when_the_agent_has_let_go(world, autojump_clock):
    async with world:
        world.agent.ends = None
        with closing(await world.begin()) as batches:
            await batches.next()
        await trio.sleep(0.5)
        assert (world.agent.interrupted, world.agent.running, world.pool.open) == (1, 1, 1)
        await trio.sleep(1)
        assert (world.agent.running, world.pool.open) == (0, 0)


@pytest.mark.parametrize("last", [Complete("end_turn"), Failed(Code.NOT_LOGGED_IN, "log in")])
async def test_the_pool_hears_how_a_turn_ended(world, last, autojump_clock):
    async with world:
        world.agent.ends = last
        await world.turn()
        assert world.pool.told == [Verdict(last if isinstance(last, Failed) else None)]


async def test_a_failed_turn_keeps_the_session(world, autojump_clock):
    async with world:
        world.agent.ends = Failed(Code.BACKEND_OVERLOADED, "later")
        await world.turn()
        world.agent.ends = Complete("end_turn")
        assert (await world.turn())[-1] == Complete("end_turn")


async def test_a_crash_of_the_runner_reaches_the_reader_and_the_session_goes_on(world, autojump_clock):
    async with world:
        await world.turn()
        world.agent.ends = ValueError("driver bug")
        with pytest.raises(ActorDied):
            await world.turn()
        world.agent.ends = Complete("end_turn")
        await world.turn()


async def test_a_runner_that_is_gone_before_the_turn_began_is_the_agents_crash(world, autojump_clock):
    async with world:
        await world.turn()
        async with running(Agent()) as other:
            await other.child.stop()
        world.pool.runner = other.ref
        with pytest.raises(Refusal) as caught:
            await world.turn()
        assert caught.value.code is Code.CRASHED


async def test_a_process_that_died_unseen_is_replaced_and_the_turn_goes_on(world, autojump_clock):
    async with world:
        await world.turn()
        async with running(Agent()) as dead:
            await dead.child.stop()
        alive, world.pool.runner = world.pool.runner, dead.ref

        async def lend(message, emit, lend=world.pool.produce):
            leased = len(world.pool.leases)
            if leased > 1:
                world.pool.runner = alive
            await lend(message, emit)

        world.pool.produce = lend
        assert await world.turn("again") == [Message("again"), Complete("end_turn")]
