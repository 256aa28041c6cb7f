from contextlib import closing, suppress

import pytest
import trio

from actors.actor import Actor
from actors.errors import ActorDied, Code, Refusal
from actors.lease import Close, Lease, Released, Verdict
from actors.messages import Complete, Failed, Message, Options, Prompt
from actors.runner import Batch, Turn
from actors.session import LINE, UNUSED, Begin, Describe, Description, Session
from tests.actors.support import CancelAtStep, Records, running, settle


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


@pytest.fixture
def world():
    return World()


# Turns.


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


# Its end.


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


# Its memory.


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


# Turns in line.


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
