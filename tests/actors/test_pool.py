"""Which process a lease gets, and which are kept for the next."""

from contextlib import suppress

import trio
from msgspec.structs import replace

from actors.errors import ActorDied
from actors.lease import Close, PoolLimits, Released, Status
from actors.pool import PATIENCE, REFILL_DELAY
from actors.telemetry import ChildEnded, PoolLevel
from tests.actors.pool_world import NO_SPARES, START, Holder, World
from tests.actors.support import running, settle


async def test_the_spares_are_there_before_anyone_asks(autojump_clock):
    async with World(PoolLimits(spares=2)) as world:
        await trio.sleep(5)
        assert len(world.alive()) == 2
        assert world.level == PoolLevel("fake", busy=0, idle=0, spare=2, waiting=0)


async def test_a_lease_takes_the_spare_at_once_and_another_takes_its_place(autojump_clock):
    async with World(PoolLimits(spares=1)) as world:
        await trio.sleep(5)
        began = trio.current_time()
        lease, process = await world.lease("s1")
        assert trio.current_time() == began
        assert process is world.processes[0]
        await trio.sleep(REFILL_DELAY / 2)
        assert len(world.processes) == 1, "the turn has the processor to itself for a moment"
        await trio.sleep(REFILL_DELAY + START)
        assert world.level == PoolLevel("fake", busy=1, idle=0, spare=1, waiting=0)
        lease.close()


async def test_the_spare_follows_the_options_in_use(autojump_clock):
    async with World(PoolLimits(spares=1)) as world:
        await trio.sleep(5)
        await world.use("s1", model="big")
        await trio.sleep(5)
        models = [process.options.model for process in world.alive()]
        assert models == ["big", "big"], "one in use, one to spare, and the unasked-for one is gone"


async def test_an_idle_spare_that_dies_is_replaced(autojump_clock):
    async with World(PoolLimits(spares=1)) as world:
        await trio.sleep(60)
        world.alive()[0].end()
        await trio.sleep(START + 0.1)
        assert len(world.alive()) == 1
        assert len(world.processes) == 2


async def test_a_spare_that_dies_young_again_and_again_counts_as_failing_to_start(autojump_clock):
    async with World(PoolLimits(spares=1)) as world:
        while trio.current_time() < 120:
            await trio.sleep(0.1)
            for process in world.alive():
                if world.starting == 0:
                    process.end()
        assert PATIENCE <= len(world.processes) < 60
        assert not (await world.ref.ask(Status())).available


# Live conversations.


async def test_a_session_gets_the_process_that_holds_its_conversation(autojump_clock):
    async with World(PoolLimits(spares=2)) as world:
        await trio.sleep(5)
        first = await world.use("s1")
        other = await world.use("s2")
        assert other is not first
        for _ in range(3):
            assert await world.use("s1") is first
            assert await world.use("s2") is other


async def test_a_shared_process_holds_many_conversations(autojump_clock):
    async with World(PoolLimits(spares=1), shared=True) as world:
        leases = [await world.lease(f"s{number}") for number in range(20)]
        assert len({id(process) for _, process in leases}) == 1
        assert len(world.processes) == 1
        for lease, _ in leases:
            lease.close()


async def test_a_shared_process_keeps_no_more_conversations_than_the_limit(autojump_clock):
    holder = Holder()
    async with World(PoolLimits(max_conversations=2), shared=True) as world, running(holder) as session:
        process = await world.use("s1", holder=session.ref)
        await world.use("s2")
        await world.use("s1", holder=session.ref)
        await world.use("s3")
        assert process.forgotten == ["s2"], "the one unused for longest"
        await world.use("s4")
        assert process.forgotten == ["s2", "s1"]
        assert holder.told == [Released(process.ref, died=False)]


async def test_a_conversation_to_resume_gets_a_process_of_its_own(autojump_clock):
    async with World(PoolLimits(spares=1)) as world:
        await trio.sleep(5)
        process = await world.use("s1", resume="conv")
        assert process.resume == "conv"


async def test_a_session_that_closes_takes_its_process_along(autojump_clock):
    async with World(NO_SPARES) as world:
        await world.use("s1")
        await world.ref.tell(Close("s1"))
        await settle()
        assert world.alive() == []


async def test_a_session_that_closes_within_its_turn_takes_it_along_afterwards(autojump_clock):
    async with World(NO_SPARES) as world:
        lease, process = await world.lease("s1")
        await world.ref.tell(Close("s1"))
        await settle()
        assert process.alive
        lease.close()
        await settle()
        assert not process.alive


async def test_a_session_that_closes_is_forgotten_by_a_shared_process_after_its_turn(autojump_clock):
    async with World(shared=True) as world:
        lease, process = await world.lease("s1")
        await world.ref.tell(Close("s1"))
        await settle()
        assert process.forgotten == []
        lease.close()
        await settle()
        assert process.forgotten == ["s1"]
        assert process.alive


async def test_closing_a_session_nobody_knows_changes_nothing(autojump_clock):
    async with World() as world:
        await world.ref.tell(Close("nobody"))
        assert (await world.ref.ask(Status())).available


async def test_a_session_hears_that_its_process_died(autojump_clock):
    holder = Holder()
    async with World(NO_SPARES) as world, running(holder) as session:
        process = await world.use("s1", holder=session.ref)
        process.end()
        await settle()
        assert holder.told == [Released(process.ref, died=True)]
        assert await world.use("s1", holder=session.ref) is not process


async def test_a_process_that_dies_under_a_lease_is_gone_from_the_counts(autojump_clock):
    async with World(NO_SPARES) as world:
        lease, process = await world.lease("s1")
        with suppress(ActorDied):
            await process.ref.ask(Status())
        await settle()
        assert [record.child for record in world.records.of(ChildEnded)] == ["fake-1"]
        lease.close()
        await settle()
        assert world.level == PoolLevel("fake", 0, 0, 0, 0)


# Eviction.


async def test_beyond_max_idle_the_least_recently_used_goes(autojump_clock):
    holder = Holder()
    async with World(replace(NO_SPARES, max_idle=2)) as world, running(holder) as session:
        first = await world.use("s1")
        second = await world.use("s2", holder=session.ref)
        await trio.sleep(1)
        await world.use("s1")
        third = await world.use("s3")
        assert (first.alive, second.alive, third.alive) == (True, False, True)
        assert holder.told == [Released(second.ref, died=False)]


async def test_an_idle_process_goes_when_its_time_is_up(autojump_clock):
    holder = Holder()
    async with World(replace(NO_SPARES, idle_ttl=60)) as world, running(holder) as session:
        await trio.sleep(30)
        process = await world.use("s1", holder=session.ref)
        await trio.sleep(59)
        assert process.alive
        await trio.sleep(2)
        assert not process.alive
        assert holder.told == [Released(process.ref, died=False)]


async def test_a_process_with_a_turn_in_hand_is_never_too_old(autojump_clock):
    async with World(replace(NO_SPARES, idle_ttl=60)) as world:
        lease, process = await world.lease("s1")
        await trio.sleep(1000)
        assert process.alive
        lease.close()
        await trio.sleep(59)
        assert process.alive
        await trio.sleep(2)
        assert not process.alive


async def test_a_spare_is_never_too_old(autojump_clock):
    async with World(PoolLimits(spares=1, idle_ttl=60)) as world:
        await trio.sleep(1000)
        assert len(world.processes) == 1
        assert world.processes[0].alive
