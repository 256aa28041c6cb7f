"""A session between an agent and a pool that exist only here."""

from contextlib import closing

import trio

from actors.actor import Actor
from actors.errors import Refusal
from actors.lease import Lease
from actors.messages import Complete, Message, Options, Prompt
from actors.runner import Batch, Turn
from actors.session import Begin, Description, Session
from tests.actors.support import Records, running


class Agent(Actor):
    """Stands for a runner: answers each turn as the script says."""

    def __init__(self):
        super().__init__()
        self.turns = []
        self.wind_down = 0.0
        self.ends = None
        self.running = 0
        self.interrupted = 0

    async def admit(self, message):
        assert isinstance(message, Turn)

    async def produce(self, message, emit):
        self.turns.append(message)
        self.running += 1
        assert self.running == 1, "one turn at a time"
        try:
            if isinstance(self.ends, Refusal):
                raise self.ends
            await emit(Batch("conv", [Message(message.prompt.text)]))
            if self.ends is None:
                await trio.sleep_forever()
            if isinstance(self.ends, Exception):
                raise self.ends
            await emit(Batch("conv", [self.ends]))
            await trio.sleep(self.wind_down)
        except trio.Cancelled:
            self.interrupted += 1
            with trio.CancelScope(shield=True):
                await trio.sleep(1)
            raise
        finally:
            self.running -= 1


class Lender(Actor):
    """Stands for the pool."""

    def __init__(self, runner):
        super().__init__()
        self.runner = runner
        self.leases = []
        self.open = 0
        self.told = []
        self.refusal = None

    async def receive(self, message):
        self.told.append(message)

    async def admit(self, message):
        assert isinstance(message, Lease)
        if self.refusal:
            raise self.refusal

    async def produce(self, message, emit):
        self.leases.append(message)
        self.open += 1
        try:
            await emit(self.runner)
            await trio.sleep_forever()
        finally:
            self.open -= 1


class World:
    def __init__(self, options=Options()):  # noqa: B008 - frozen
        self.agent = Agent()
        self.agent.ends = Complete("end_turn")
        self.records = Records()
        self.options = options

    async def __aenter__(self):
        self._running = [running(self.agent)]
        self.runner = (await self._running[0].__aenter__()).ref
        self.pool = Lender(self.runner)
        self._running.append(running(self.pool))
        pool = (await self._running[1].__aenter__()).ref
        self._running.append(running(Session(Description("ses_1", "echo", self.options), pool), self.records))
        self.session = await self._running[2].__aenter__()
        return self

    async def __aexit__(self, *exc_info):
        for one in reversed(self._running):
            await one.__aexit__(None, None, None)

    def begin(self, text="hello"):
        return self.session.ref.stream(Begin(Prompt(text), approve))

    async def turn(self, text="hello"):
        with closing(await self.begin(text)) as batches:
            return [event async for batch in batches for event in batch]


async def approve(permission, announce):
    del permission, announce
    return "deny"
