"""The calls of a client's tools in one run."""

import pytest
import trio
import trio.lowlevel

from actors.calls import MOMENT, Calls, run_of_call
from actors.errors import Code, Refusal
from actors.messages import ToolAnswer, ToolResult

RUN = "run_" + "ab" * 16


class World:
    """The calls of a run, and what they tell."""

    def __init__(self, patience=10.0):
        self.events = []
        self.changes = 0
        self.unanswered = 0
        self.gave = {}
        self.calls = Calls(RUN, patience, self.change, self.give_up)

    def change(self):
        self.changes += 1

    def give_up(self):
        self.unanswered += 1

    async def put(self, name):
        self.gave[name] = await self.calls.put(name, {"of": name}, ord(name), self.events.append)

    @property
    def told(self):
        return [(event.name, event.client) for event in self.events if not isinstance(event, ToolResult)]

    @property
    def ids(self):
        return [event.id for event in self.events if not isinstance(event, ToolResult)]

    def answers(self, *ids):
        return [ToolAnswer(each, f"of {each}") for each in ids]


@pytest.fixture
async def world(autojump_clock, nursery):
    made = World()
    made.nursery = nursery
    return made


async def test_calls_that_come_together_are_told_together_and_counted_down(autojump_clock, world):
    for name in "abc":
        world.nursery.start_soon(world.put, name)
    await trio.sleep(MOMENT / 2)
    assert world.told == []
    await trio.sleep(MOMENT)
    assert world.told == [("a", 3), ("b", 2), ("c", 1)]
    assert {run_of_call(each) for each in world.ids} == {RUN}
    assert world.calls.waiting
    assert not world.calls.held
    world.calls.deliver(world.ids, 7)
    assert world.calls.held
    assert world.calls.answer(world.answers(*world.ids)) == 7
    await trio.sleep(1)
    assert len(world.gave) == 3
    assert not world.calls.held
    assert not world.calls.waiting


async def test_one_call_is_told_at_a_time_where_the_client_wants_it_so(autojump_clock, world):
    world.calls.one_at_a_time()
    for name in "ab":
        world.nursery.start_soon(world.put, name)
    await trio.sleep(1)
    assert world.told == [("a", 1)]
    world.calls.deliver(world.ids, 2)
    world.calls.answer(world.answers(*world.ids))
    await trio.sleep(1)
    assert world.told == [("a", 1), ("b", 1)]
    world.calls.deliver(world.ids[1:], 4)
    assert world.calls.answer(world.answers(world.ids[1])) == 4


@pytest.mark.parametrize(
    ("given", "code"), [(["x"], Code.NOT_FOUND), ([], Code.NOT_FOUND), (["first"], Code.INVALID_REQUEST)]
)
async def test_answers_to_anything_but_the_calls_that_wait_are_refused(autojump_clock, world, given, code):
    for name in "ab":
        world.nursery.start_soon(world.put, name)
    await trio.sleep(1)
    world.calls.deliver(world.ids, 2)
    named = [world.ids[0] if each == "first" else each for each in given]
    with pytest.raises(Refusal) as refused:
        world.calls.answer(world.answers(*named))
    assert refused.value.code is code
    assert world.gave == {}
    world.calls.answer(world.answers(*world.ids))


async def test_calls_that_the_client_was_not_told_of_cannot_be_answered(autojump_clock, world):
    world.nursery.start_soon(world.put, "a")
    await trio.sleep(1)
    with pytest.raises(Refusal):
        world.calls.answer(world.answers(*world.ids))
    world.calls.deliver(world.ids, 1)
    world.calls.answer(world.answers(*world.ids))


async def test_a_call_that_nobody_answers_fails_and_says_so(autojump_clock):
    world = World(patience=5)
    await world.put("a")
    assert world.gave["a"].is_error
    assert world.unanswered == 1
    assert isinstance(world.events[-1], ToolResult)
    assert not world.calls.held


async def test_the_client_has_all_that_it_was_told_of_since_it_was_told_last(autojump_clock, world):
    assert world.calls.held_since is None
    for name in "ab":
        world.nursery.start_soon(world.put, name)
        await trio.sleep(1)
        world.calls.deliver(world.ids[-1:], 1)
    assert world.calls.held_since == trio.current_time()
    world.calls.answer(world.answers(world.ids[1]))
    assert world.calls.held_since == trio.current_time() - 1
    world.calls.answer(world.answers(world.ids[0]))
    assert world.calls.held_since is None


async def test_who_is_told_again_of_the_same_calls_has_known_them_since_the_first_time(autojump_clock, world):
    world.nursery.start_soon(world.put, "a")
    for _ in range(2):
        await trio.sleep(1)
        world.calls.deliver(world.ids, 1)
    assert world.calls.held_since == trio.current_time() - 1


async def test_a_call_that_the_agent_gives_up_waits_no_more(autojump_clock):
    world = World()
    with trio.move_on_after(1):
        await world.put("a")
    assert not world.calls.waiting
    world.calls.deliver(world.ids, 1)
    assert not world.calls.held


@pytest.mark.parametrize("name", ["", "call_1", "toolu_x", f"call_{'g' * 32}1", f"call_{'a' * 32}"])
def test_other_ids_are_of_no_run(name):
    assert run_of_call(name) is None
