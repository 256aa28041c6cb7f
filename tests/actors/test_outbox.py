import pytest
import trio

from actors.errors import Code
from actors.messages import Complete, Failed, Message
from actors.outbox import LIMIT, Outbox
from tests.actors.support import settle


def words(*texts):
    return [Message(text) for text in texts]


async def test_everything_new_is_taken_at_once_and_in_order(autojump_clock):
    box = Outbox()
    for event in words("a", "b"):
        box.put(event)
    assert await box.take() == words("a", "b")
    box.put(Message("c"))
    assert await box.take() == words("c")


async def test_taking_waits_for_the_first_event(autojump_clock):
    box = Outbox()
    with trio.move_on_after(1) as patience:
        await box.take()
    assert patience.cancelled_caught
    box.put(Message("a"))
    assert await box.take() == words("a")


@pytest.mark.parametrize("last", [Complete("end_turn"), Failed(Code.CRASHED, "gone")])
async def test_the_first_terminal_event_closes_it(last, autojump_clock):
    box = Outbox()
    for event in (Message("a"), last, Message("late"), Failed(Code.INTERNAL, "second")):
        box.put(event)
    assert await box.take() == [Message("a"), last]
    assert await box.take() == []
    assert box.ended


async def test_room_is_waited_for_only_beyond_the_limit(autojump_clock):
    box = Outbox()
    for _ in range(LIMIT):
        box.put(Message("x"))
    await box.wait_room()
    box.put(Message("x"))
    waited = trio.Event()

    async def wait():
        await box.wait_room()
        waited.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        await settle()
        assert not waited.is_set()
        await box.take()
        await waited.wait()


async def test_no_one_who_waits_is_forgotten_when_others_wait_too(autojump_clock):
    box = Outbox()
    ended = []

    async def wait_ended(number):
        await box.wait_ended()
        ended.append(number)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait_ended, 1)
        nursery.start_soon(box.take)
        nursery.start_soon(wait_ended, 2)
        await settle()
        box.put(Message("a"))
        await settle()
        assert ended == []
        box.put(Complete("end_turn"))
    assert sorted(ended) == [1, 2]


async def test_closed_it_lets_everyone_go_and_drops_what_comes(autojump_clock):
    box = Outbox()
    for _ in range(LIMIT + 1):
        box.put(Message("x"))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(box.wait_room)
        nursery.start_soon(box.wait_ended)
        await settle()
        box.close()
    box.put(Message("late"))
    assert await box.take() == []
