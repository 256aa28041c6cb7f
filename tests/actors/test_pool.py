from contextlib import AsyncExitStack, closing, suppress

import pytest
import trio
from msgspec.structs import replace

from actors.actor import Actor
from actors.errors import ActorDied, Code, Refusal
from actors.lease import Close, Lease, PoolLimits, Released, Status, Verdict
from actors.messages import Failed, Options
from actors.pool import BACKOFF_CAP, PATIENCE, REFILL_DELAY, Pool
from actors.runner import Forget, Ready
from actors.telemetry import ChildEnded, PoolLevel, ProcessEnded, ProcessStarted
from tests.actors.support import CancelAtStep, Records, running, settle

NO_SPARES = PoolLimits(spares=0)
START = 1.0
"""Seconds that a process of this world takes to start."""


class FakeDriver:
    """As much of the port as the pool asks for: processes differ by model."""

    name = "fake"

    def __init__(self, *, shared=False):
        self.shared = shared

    def fixed_at_spawn(self, options, resume):
        return options.model, resume


class Process(Actor):
    """Stands for a runner and its process, both of which exist only here."""

    def __init__(self, world, options, resume, observe):
        super().__init__()
        self.world = world
        self.options = options
        self.resume = resume
        self.observe = observe
        self.forgotten = []
        self.alive = False
        world.processes.append(self)

    async def started(self):
        self.alive = True
        self.world.most_alive = max(self.world.most_alive, len(self.world.alive()))

    async def receive(self, message):
        match message:
            case Forget(session=session):
                self.forgotten.append(session)
            case _:
                raise RuntimeError("a bug in the driver")

    async def admit(self, message):
        assert isinstance(message, Ready)

    async def produce(self, _message, emit):
        world = self.world
        world.starting += 1
        world.most_starting = max(world.most_starting, world.starting)
        try:
            await trio.sleep(world.start_time)
            failure = world.failures.get(self.options.model, world.failure)
            if failure is not None:
                self.observe(ProcessEnded("fake", "failed_to_start", str(failure)))
                self.end()
                raise failure
            self.observe(ProcessStarted("fake", world.start_time))
        finally:
            world.starting -= 1
        await emit(None)

    async def stopping(self):
        await trio.sleep(self.world.stop_time)
        self.alive = False


class Holder(Actor):
    """Stands for a session: remembers what it was told."""

    def __init__(self):
        super().__init__()
        self.told = []

    async def receive(self, message):
        self.told.append(message)


class World:
    """A pool, and what it did."""

    def __init__(self, limits=PoolLimits(), *, shared=False, default=Options()):  # noqa: B008 - frozen
        world = self
        self.processes = []
        self.starting = self.most_starting = self.most_alive = 0
        self.start_time, self.stop_time = START, 0.0
        self.failure = None
        self.failures = {}
        self.records = Records()

        class FakePool(Pool):
            @staticmethod
            def make_runner(driver, options, marker, limits, observe, resume):
                del driver, marker, limits
                return Process(world, options, resume, observe)

        self.pool = FakePool(FakeDriver(shared=shared), limits, default, lambda: "mark", self.records)

    async def __aenter__(self):
        self._stack = AsyncExitStack()
        self.somebody = (await self._stack.enter_async_context(running(Holder()))).ref
        self.one = await self._stack.enter_async_context(running(self.pool, self.records))
        self.ref = self.one.ref
        return self

    async def __aexit__(self, *exc_info):
        await self._stack.aclose()
        assert self.one.error is None
        assert self.alive() == [], "nothing is left behind"

    def alive(self):
        return [process for process in self.processes if process.alive]

    @property
    def level(self):
        return self.records.of(PoolLevel)[-1]

    async def lease(self, session, holder=None, *, model="", resume=None):
        """An open lease, and the process behind it."""
        lease = await self.ref.stream(Lease(session, holder or self.somebody, Options(model=model), resume))
        try:
            runner = await lease.next()
        except BaseException:
            lease.close()
            raise
        return lease, self.process_of(runner)

    def process_of(self, runner):
        return next(process for process in self.processes if getattr(process, "ref", None) is runner)

    async def use(self, session, **how):
        """One turn: lease and give back. Returns the process."""
        lease, process = await self.lease(session, **how)
        lease.close()
        await settle()
        return process


# Spares.


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


# Bounds.


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


# Failing starts.


async def test_a_start_that_fails_refuses_the_lease_with_the_reason(autojump_clock):
    async with World(NO_SPARES) as world:
        world.failure = Refusal(Code.BACKEND_UNAVAILABLE, "fake ended with exit code 1")
        with pytest.raises(Refusal, match="exit code 1") as caught:
            await world.lease("s1")
        assert caught.value.code is Code.BACKEND_UNAVAILABLE
        status = await world.ref.ask(Status())
        assert (status.available, status.reason) == (False, "fake ended with exit code 1")
        await settle()
        assert world.level == PoolLevel("fake", 0, 0, 0, 0)


async def test_after_too_many_failures_it_refuses_at_once_and_tries_again_later(autojump_clock):
    async with World(NO_SPARES) as world:
        world.failure = Refusal(Code.BACKEND_UNAVAILABLE, "broken")
        for _ in range(PATIENCE):
            with pytest.raises(Refusal):
                await world.lease("s1")
        began, tried = trio.current_time(), len(world.processes)
        with pytest.raises(Refusal, match="broken") as caught:
            await world.lease("s1")
        assert trio.current_time() == began
        assert len(world.processes) == tried
        assert 0 < caught.value.retry_after <= 1
        await trio.sleep(caught.value.retry_after)
        world.failure = None
        await world.use("s1")
        assert (await world.ref.ask(Status())).available


async def test_the_pauses_grow_to_a_cap(autojump_clock):
    async with World(NO_SPARES) as world:
        world.failure = Refusal(Code.BACKEND_UNAVAILABLE, "broken")
        pauses = []
        while len(pauses) < 9:
            with pytest.raises(Refusal) as caught:
                await world.lease("s1")
            if caught.value.retry_after:
                pauses.append(round(caught.value.retry_after))
                await trio.sleep(caught.value.retry_after)
        assert pauses == [1, 2, 4, 8, 16, BACKOFF_CAP, BACKOFF_CAP, BACKOFF_CAP, BACKOFF_CAP]


async def test_spares_that_fail_to_start_are_tried_less_and_less_and_come_back_by_themselves(autojump_clock):
    async with World(PoolLimits(spares=3, max_spawning=3)) as world:
        world.failure = Refusal(Code.BACKEND_UNAVAILABLE, "broken")
        await trio.sleep(300)
        tried = len(world.processes)
        assert PATIENCE < tried <= 3 * 15, "never a storm"
        world.failure = None
        await trio.sleep(2 * BACKOFF_CAP)
        assert len(world.alive()) == 3
        assert (await world.ref.ask(Status())).available


async def test_what_is_not_installed_is_looked_for_at_every_request(autojump_clock):
    async with World(NO_SPARES) as world:
        world.failure = Refusal(Code.NOT_INSTALLED, "no such program")
        for _ in range(2 * PATIENCE):
            with pytest.raises(Refusal):
                await world.lease("s1")
        assert len(world.processes) == 2 * PATIENCE
        world.failure = None
        await world.use("s1")


async def test_a_start_that_fails_by_the_callers_fault_says_nothing_about_the_backend(autojump_clock):
    async with World(PoolLimits(spares=1)) as world:
        await trio.sleep(5)
        world.failure = Refusal(Code.INVALID_REQUEST, "no such directory", param="workdir")
        for _ in range(2 * PATIENCE):
            with pytest.raises(Refusal) as caught:
                await world.lease("s1", model="other")
            assert caught.value.param == "workdir"
        assert (await world.ref.ask(Status())).available
        tried = len(world.processes)
        await trio.sleep(100)
        assert len(world.processes) <= tried + 2, "and a spare like it is not tried for ever"


@pytest.mark.parametrize("code", [Code.BACKEND_UNAVAILABLE, Code.INVALID_REQUEST])
async def test_options_that_nothing_starts_with_harm_only_the_lease_that_asks_for_them(code, autojump_clock):
    async with World(PoolLimits(spares=1)) as world:
        await trio.sleep(5)
        world.failures["bad"] = Refusal(code, "unknown flag")
        for _ in range(2 * PATIENCE):
            with pytest.raises(Refusal, match="unknown flag"):
                await world.lease("s1", model="bad")
        await trio.sleep(100)
        assert len(world.processes) == 1 + 2 * PATIENCE, "no spare is tried like it"
        assert world.alive() == world.processes[:1], "and the one that was there is there still"
        assert (await world.ref.ask(Status())).available


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("code", [Code.BACKEND_UNAVAILABLE, Code.INVALID_REQUEST])
async def test_options_that_nothing_starts_with_any_more_give_way_to_the_default_ones(
    code, shared, autojump_clock
):
    async with World(PoolLimits(spares=2), shared=shared) as world:
        await world.use("s1", model="big")
        await world.use("s2", model="big")
        await trio.sleep(5)
        assert {process.options.model for process in world.alive()} == {"big"}
        world.failures["big"] = Refusal(code, "no such directory")
        for process in world.alive():
            process.end()
        await trio.sleep(100)
        assert {process.options.model for process in world.alive()} == {""}
        assert [process.options.model for process in world.processes].count("big") <= 6
        status = await world.ref.ask(Status())
        assert (status.available, status.reason) == (True, "")


async def test_the_default_options_are_tried_again_after_others_in_use_have_failed_too(autojump_clock):
    async with World(PoolLimits(spares=1)) as world:
        await world.use("s1", model="big")
        await trio.sleep(5)
        world.failure = Refusal(Code.BACKEND_UNAVAILABLE, "broken")
        with pytest.raises(Refusal):
            await world.lease("s2")
        for process in world.alive():
            process.end()
        await trio.sleep(60)
        assert not (await world.ref.ask(Status())).available
        world.failure, world.failures["big"] = None, world.failure
        await trio.sleep(2 * BACKOFF_CAP)
        assert [process.options.model for process in world.alive()] == [""]
        assert (await world.ref.ask(Status())).available


async def test_what_fails_to_start_again_and_again_is_reported_once_until_it_is_mended(autojump_clock):
    async with World(PoolLimits(spares=1)) as world:
        world.failure = Refusal(Code.NOT_INSTALLED, "no such program")
        await trio.sleep(10 * BACKOFF_CAP)
        assert len(world.processes) > 5, "it is looked for"
        assert len(world.records.of(ProcessEnded)) == 1
        world.failure = Refusal(Code.NOT_INSTALLED, "no such interpreter")
        await trio.sleep(3 * BACKOFF_CAP)
        assert len(world.records.of(ProcessEnded)) == 2
        world.failure = None
        await trio.sleep(2 * BACKOFF_CAP)
        world.failure = Refusal(Code.NOT_INSTALLED, "no such interpreter")
        world.alive()[0].end()
        await trio.sleep(3 * BACKOFF_CAP)
        assert len(world.records.of(ProcessEnded)) == 3


async def test_a_spare_that_is_no_longer_wanted_while_it_starts_is_no_failure(autojump_clock):
    async with World(PoolLimits(spares=1, max_spawning=9)) as world:
        for number in range(6):
            await world.use("s1", model=f"m{number}")
            await world.ref.tell(Close("s1"))
        await settle()
        assert (await world.ref.ask(Status())).available


async def test_a_login_that_has_expired_shows_until_a_turn_succeeds(autojump_clock):
    async with World(NO_SPARES) as world:
        await world.ref.tell(Verdict(Failed(Code.NOT_LOGGED_IN, "log in again")))
        assert (await world.ref.ask(Status())).reason == "log in again"
        await world.ref.tell(Verdict(None))
        assert (await world.ref.ask(Status())).available


# The end.


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
