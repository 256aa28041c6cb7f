"""What a pool, and a holder of its leases, leave behind."""

from contextlib import closing

import pytest
import trio

from actors.lease import PoolLimits, Released, Status
from actors.telemetry import ChildEnded, PoolLevel
from tests.actors.pool_world import NO_SPARES, START, Holder, World
from tests.actors.support import CancelAtStep, running, settle


@pytest.mark.parametrize("after", [0.0, START / 2, 1.5 * START, 10 * START])
@pytest.mark.parametrize("shared", [False, True])
async def test_stopped_at_any_time_it_stops_all_its_processes_side_by_side(after, shared, autojump_clock):
    async with World(PoolLimits(spares=4, max_spawning=1), shared=shared) as world:
        world.stop_time = 1.0
        await trio.sleep(after)
        began = trio.current_time()
        with trio.fail_after(10):
            await world.one.child.stop()
        assert trio.current_time() - began <= 1.01


async def test_stopped_it_tells_the_sessions(autojump_clock):
    holder = Holder()
    async with World(NO_SPARES) as world, running(holder) as session:
        process = await world.use("s1", holder=session.ref)
        await world.one.child.stop()
        await settle()
        assert holder.told == [Released(process.ref, died=True)]


async def test_a_holder_who_dies_gives_its_lease_back(autojump_clock):
    async with World(NO_SPARES) as world:
        async with trio.open_nursery() as nursery:

            async def hold():
                lease, _ = await world.lease("s1")
                with closing(lease):
                    await trio.sleep_forever()

            nursery.start_soon(hold)
            await trio.sleep(5)
            assert world.level.busy == 1
            nursery.cancel_scope.cancel()
        await settle()
        assert world.level == PoolLevel("fake", busy=0, idle=1, spare=0, waiting=0)


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize(
    "limits", [NO_SPARES, PoolLimits(spares=1, max_processes=2), PoolLimits(max_processes=1)]
)
async def test_a_lease_cancelled_at_any_step_is_given_back(shared, limits, autojump_clock):
    """Whatever step its holder is cancelled at, nothing stays in the counts, and the next lease gets a process."""
    step, reached = 0, True
    while reached:
        step += 1
        async with World(limits, shared=shared) as world:
            await world.use("s0", model="other")
            async with trio.open_nursery() as nursery:
                with CancelAtStep(nursery.cancel_scope, step) as cancel:
                    nursery.start_soon(world.use, "s1")
                    nursery.start_soon(world.use, "s2")
                    await trio.sleep(10)
                reached = cancel.reached
            await trio.sleep(20)
            assert (world.level.busy, world.level.waiting, world.starting) == (0, 0, 0)
            assert len(world.alive()) == world.level.idle + world.level.spare
            assert len(world.alive()) <= limits.max_processes
            with trio.fail_after(10):
                await world.use("s3")
            assert (await world.ref.ask(Status())).available
            assert world.records.of(ChildEnded) == []
        assert step < 1000
    assert step > 20
