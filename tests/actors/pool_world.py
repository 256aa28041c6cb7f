"""A pool whose processes exist only here, and what it did with them."""

from contextlib import AsyncExitStack

import trio

from actors.actor import Actor
from actors.lease import Lease, PoolLimits
from actors.messages import Options
from actors.pool import Pool
from actors.runner import Forget, Ready
from actors.telemetry import PoolLevel, ProcessEnded, ProcessStarted
from tests.actors.support import Records, running, settle

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
