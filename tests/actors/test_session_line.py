"""Turns that wait in a session's line."""

from contextlib import closing

import pytest
import trio

from actors.errors import Code, Refusal
from actors.lease import Released
from actors.messages import Complete, Message, Prompt
from actors.session import LINE, Begin
from tests.actors.session_world import approve
from tests.actors.support import settle


def in_line(world, text):
    return world.session.ref.stream(Begin(Prompt(text), approve, queue=True))


async def test_turns_in_line_run_in_their_order_each_announced_by_an_empty_batch(world, autojump_clock):
    order = []

    async def wait(text):
        with closing(await in_line(world, text)) as batches:
            assert await batches.next() == []
            order.append(text)
            async for _ in batches:
                pass

    async with world:
        world.agent.wind_down = 1.0
        async with trio.open_nursery() as nursery:
            for text in "abcde":
                nursery.start_soon(wait, text)
                await settle()
            with pytest.raises(Refusal) as caught:
                await world.begin()
            assert caught.value.code is Code.SESSION_BUSY
    assert order == list("abcde")


async def test_the_line_is_bounded_and_who_leaves_makes_room(world, autojump_clock):
    async with world:
        world.agent.ends = None
        with closing(await world.begin()):
            await settle()
            waiting = [await in_line(world, "x") for _ in range(LINE)]
            with pytest.raises(Refusal, match="16 turns wait"):
                await in_line(world, "x")
            waiting.pop().close()
            await settle()
            waiting.append(await in_line(world, "x"))
            for batches in waiting:
                batches.close()
        await trio.sleep(5)
        world.agent.ends = Complete("end_turn")
        assert len(await world.turn("last")) == 2


async def test_one_who_leaves_the_line_does_not_end_a_session_whose_first_turn_is_in_hand(
    world, autojump_clock
):
    async with world:
        world.pool.produce = slow_to_lend(world.pool.produce)
        with closing(await world.begin("first")) as batches:
            waiting = await in_line(world, "second")
            waiting.close()
            await settle()
            assert not world.session.ended.is_set()
            assert await batches.next() == [Message("first")]


def slow_to_lend(produce):
    async def lend(message, emit):
        await trio.sleep(1)
        await produce(message, emit)

    return lend


async def test_a_first_turn_that_fails_does_not_take_those_in_line_along(world, autojump_clock):
    async with world:
        world.pool.refusal = Refusal(Code.BUSY, "no process")
        first = await world.begin("first")
        waiting = await in_line(world, "second")
        with pytest.raises(Refusal):
            await first.next()
        world.pool.refusal = None
        with closing(waiting):
            assert await waiting.next() == []
            assert await waiting.next() == [Message("second")]


async def test_evicted_it_stays_for_those_in_line(world, autojump_clock):
    async with world:
        await world.turn()
        world.agent.ends = None
        with closing(await world.begin()) as batches:
            await batches.next()
            waiting = await in_line(world, "next")
            await world.session.ref.tell(Released(world.runner, died=False))
            batches.close()
            await trio.sleep(2)
            world.agent.ends = Complete("end_turn")
            with closing(waiting):
                assert await waiting.next() == []
                assert await waiting.next() == [Message("next")]
