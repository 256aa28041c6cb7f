"""How many processes there are at most, and who waits for one."""

import pytest
import trio
from msgspec.structs import replace

from actors.lease import PoolLimits, Status
from tests.actors.pool_world import NO_SPARES, START, World
from tests.actors.support import settle


async def test_at_the_limit_an_idle_process_makes_room(autojump_clock):
    async with World(replace(NO_SPARES, max_processes=1)) as world:
        first = await world.use("s1")
        second = await world.use("s2")
        assert (first.alive, second.alive) == (False, True)


async def test_at_the_limit_with_all_busy_leases_wait_and_are_served_in_order(autojump_clock):
    served = []

    async def wait(world, session):
        lease, _ = await world.lease(session)
        served.append(session)
        await trio.sleep(10)
        lease.close()

    async with World(PoolLimits(spares=1, max_processes=2)) as world, trio.open_nursery() as nursery:
        world.stop_time = 2.0
        for number in range(8):
            nursery.start_soon(wait, world, f"s{number}")
            await trio.sleep(0.1)
        assert world.level.waiting == (await world.ref.ask(Status())).waiting == 6
        await trio.sleep(200)
        assert served == [f"s{number}" for number in range(8)]
        assert world.level.waiting == 0
        assert world.most_alive <= 2, "those that are still dying included"


async def test_a_newcomer_does_not_overtake_those_who_wait_but_a_live_conversation_does(autojump_clock):
    served = []

    async def wait(world, session, **how):
        lease, _ = await world.lease(session, **how)
        served.append(session)
        await trio.sleep(10)
        lease.close()

    async with World(replace(NO_SPARES, max_processes=2)) as world, trio.open_nursery() as nursery:
        await world.use("live")
        busy, _ = await world.lease("busy")
        nursery.start_soon(wait, world, "live")
        await settle()
        for session in ("first", "second"):
            nursery.start_soon(wait, world, session)
            await settle()
        busy.close()
        await settle()
        nursery.start_soon(wait, world, "live")
        await trio.sleep(200)
        assert served[0] == "live"
        assert served.index("first") < served.index("second")
        assert len(served) == 4


async def test_a_stream_of_others_does_not_starve_one_who_waits_for_another_kind_of_process(autojump_clock):
    served = []

    async def take(world, session, model):
        lease, _ = await world.lease(session, model=model)
        served.append(session)
        lease.close()

    limits = replace(NO_SPARES, max_processes=1)
    async with World(limits, shared=True) as world, trio.open_nursery() as nursery:
        busy, _ = await world.lease("s1", model="a")
        nursery.start_soon(take, world, "s2", "b")
        await settle()
        nursery.start_soon(take, world, "s3", "a")
        await trio.sleep(5)
        assert served == []
        busy.close()
        await trio.sleep(10)
    assert served == ["s2", "s3"]


async def test_one_who_waits_and_leaves_is_waited_for_no_more(autojump_clock):
    async with World(replace(NO_SPARES, max_processes=1)) as world:
        lease, _ = await world.lease("s1")
        with trio.move_on_after(5):
            await world.lease("s2")
        await settle()
        assert world.level.waiting == 0
        lease.close()
        await world.use("s3")


async def test_never_more_start_at_once_than_the_limit(autojump_clock):
    async with World(replace(NO_SPARES, max_spawning=2)) as world:
        async with trio.open_nursery() as nursery:
            for number in range(7):
                nursery.start_soon(world.use, f"s{number}")
        assert world.most_starting == 2
        assert trio.current_time() == pytest.approx(4 * START)
