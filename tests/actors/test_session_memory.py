"""What a session remembers from one process to the next."""

from contextlib import closing

import pytest
import trio

from actors.errors import Code, Refusal
from actors.messages import Complete
from actors.session import UNUSED, Description, Session
from tests.actors.session_world import Agent, World
from tests.actors.support import running, settle


class Memory:
    """What is remembered, in the open."""

    def __init__(self, conversation=None, history=()):
        self.remembered = conversation
        self.said = list(history)
        self.refusal = None
        self.asked = 0

    async def conversation(self):
        self.asked += 1
        if self.refusal:
            raise self.refusal
        return self.remembered

    async def set_conversation(self, conversation):
        if self.refusal:
            raise self.refusal
        self.remembered = conversation

    async def history(self):
        return self.said


class Remembering(World):
    def __init__(self, memory):
        super().__init__()
        self.memory = memory

    async def __aenter__(self):
        await super().__aenter__()
        await settle()
        described = Description("ses_2", "echo", self.options)
        self._running.append(running(Session(described, self.pool.ref, self.memory), self.records))
        self.session = await self._running[-1].__aenter__()
        return self


async def test_it_takes_up_what_is_remembered_once_and_late(autojump_clock):
    memory = Memory("old")
    async with Remembering(memory) as world:
        assert memory.asked == 0
        memory.remembered = "conv"
        await world.turn()
        await world.turn("again")
        assert memory.asked == 1
        assert [lease.resume for lease in world.pool.leases] == ["conv", "conv"]


async def test_a_new_conversation_is_remembered_before_its_first_event_is_told(autojump_clock):
    memory = Memory()
    async with Remembering(memory) as world:
        with closing(await world.begin()) as batches:
            await batches.next()
            assert memory.remembered == "conv"


class Forgetful(Agent):
    """Knows no conversation of before."""

    code = Code.NOT_FOUND

    async def produce(self, message, emit):
        if message.resume == "old":
            self.turns.append(message)
            raise Refusal(self.code, "no such conversation")
        await super().produce(message, emit)


@pytest.mark.parametrize("code", [Code.NOT_FOUND, Code.UNSUPPORTED])
async def test_an_agent_that_cannot_resume_is_told_the_history_once(code, autojump_clock):
    memory = Memory("old", [("one", "1"), ("two", "2")])
    world = Remembering(memory)
    world.agent = Forgetful()
    world.agent.ends = Complete("end_turn")
    world.agent.code = code
    async with world:
        await world.turn("three")
        await world.turn("four")
    first, second, third = world.agent.turns
    assert (first.prompt.text, first.resume) == ("three", "old")
    assert second.resume is None
    assert "<user>one</user>" in second.prompt.text
    assert second.prompt.text.endswith("three")
    assert third.prompt.text == "four"
    assert memory.remembered == "conv"


async def test_where_resuming_fails_otherwise_nothing_is_forgotten(autojump_clock):
    memory = Memory("old", [("one", "1")])
    world = Remembering(memory)
    world.agent = Forgetful()
    world.agent.code = Code.NOT_LOGGED_IN
    async with world:
        with pytest.raises(Refusal, match="no such conversation"):
            await world.turn("two")
        assert len(world.agent.turns) == 1
    assert memory.remembered == "old"


async def test_a_conversation_is_not_forgotten_before_there_is_a_new_one(autojump_clock):
    memory = Memory("old", [("one", "1")])
    world = Remembering(memory)
    world.agent = Forgetful()
    world.agent.ends = Refusal(Code.BACKEND_OVERLOADED, "later")
    async with world:
        with pytest.raises(Refusal, match="later"):
            await world.turn("two")
    assert memory.remembered == "old"


@pytest.mark.parametrize("code", [Code.STORAGE, Code.NOT_FOUND])
async def test_what_cannot_be_remembered_fails_its_turn_and_nothing_is_asked_twice(code, autojump_clock):
    """NOT_FOUND: the session was deleted in this moment. That is no conversation to tell anew."""
    memory = Memory("old", [("one", "1")])
    async with Remembering(memory) as world:

        async def refuse(_):
            raise Refusal(code, "cannot be kept")

        memory.set_conversation = refuse
        with pytest.raises(Refusal, match="cannot be kept"):
            await world.turn("two")
        await trio.sleep(3)
        assert len(world.agent.turns) == 1


async def test_a_new_session_that_cannot_be_remembered_ends(autojump_clock):
    memory = Memory()
    async with Remembering(memory) as world:

        async def refuse(_):
            raise Refusal(Code.STORAGE, "cannot be kept")

        memory.set_conversation = refuse
        with pytest.raises(Refusal, match="cannot be kept"):
            await world.turn("one")
        await world.session.ended.wait()
        assert trio.current_time() < UNUSED / 2
