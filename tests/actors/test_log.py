import pytest
import trio

from actors.errors import Code, Refusal
from actors.log import ENTRY_COST, Log
from actors.messages import Complete, Message, Permission, Thinking, ToolResult, ToolUse
from tests.actors.support import settle

LARGE = 1 << 20


def filled(count, *, limit=LARGE, text="x"):
    log = Log("run_1", limit)
    for _ in range(count):
        log.append([Message(text)], "echo", "ses_1")
    return log


def numbers(entries):
    return [entry.seq for entry in entries]


def test_entries_are_numbered_from_one_without_gaps():
    log = Log("run_1", LARGE)
    log.append([Message("a"), Thinking("b")], "echo", "ses_1")
    log.append([Complete("end_turn")], "echo", "ses_1", 3)
    entries = log.after(0, 10)
    assert numbers(entries) == [1, 2, 3]
    assert [entry.type for entry in entries] == ["message", "thinking", "complete"]
    assert {(entry.run_id, entry.session_id, entry.backend) for entry in entries} == {
        ("run_1", "ses_1", "echo")
    }
    assert entries[2].task == 3
    assert log.last == 3


def test_a_reader_gets_at_most_a_page_and_nothing_twice():
    log = filled(10)
    assert numbers(log.after(0, 4)) == [1, 2, 3, 4]
    assert numbers(log.after(4, 4)) == [5, 6, 7, 8]
    assert numbers(log.after(8, 4)) == [9, 10]
    assert log.after(10, 4) == []
    assert log.after(99, 4) == []


async def test_every_reader_who_waits_is_woken():
    log = Log("run_1", LARGE)
    woken = []

    async def read(name):
        await log.wait_after(0)
        woken.append(name)

    async with trio.open_nursery() as nursery:
        for name in "abc":
            nursery.start_soon(read, name)
        await settle()
        assert woken == []
        log.append([Message("x")], "echo", "ses_1")
    assert sorted(woken) == ["a", "b", "c"]


async def test_the_end_wakes_who_waits_beyond_it():
    log = filled(1)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(log.wait_after, 1)
        await settle()
        log.end()
    assert log.after(1, 10) == []


def test_beyond_its_limit_the_oldest_are_dropped_and_the_numbers_go_on():
    log = filled(100, limit=20 * (ENTRY_COST + 1))
    assert log.last == 100
    kept = numbers(log.after(log.last - 10, 100))
    assert kept == list(range(91, 101))
    with pytest.raises(Refusal) as caught:
        log.after(0, 10)
    assert caught.value.code is Code.READER_TOO_SLOW
    assert "events 1 to" in caught.value.message


def test_what_is_kept_stays_within_the_limit():
    log = filled(1000, limit=100_000, text="x" * 1000)
    kept = 0
    while True:
        try:
            log.after(log.last - kept - 1, 1)
        except Refusal:
            break
        kept += 1
    assert 50 <= kept <= 100_000 // (ENTRY_COST + 1000)


def test_the_newest_entry_is_kept_however_large():
    log = filled(3, limit=1000, text="x" * 5000)
    assert numbers(log.after(2, 10)) == [3]


@pytest.mark.parametrize(
    "event",
    [
        Message("x" * 5000),
        Thinking("x" * 5000),
        ToolResult("id", "x" * 5000),
        ToolUse("id", "Write", {"content": "x" * 5000}),
        Permission("id", "Write", {"content": ["x" * 5000]}, ("allow",)),
        Complete("end_turn", output="x" * 5000),
    ],
)
def test_whatever_may_be_long_counts(event):
    log = Log("run_1", 50_000)
    for _ in range(20):
        log.append([event], "echo", "ses_1")
    with pytest.raises(Refusal):
        log.after(0, 1)


# What is kept elsewhere.


def kept(limit=LARGE):
    return Log("run_1", limit, awaits_keeping=True)


def say(log, *texts):
    log.append([Message(text) for text in texts], "echo", "ses_1")


async def test_readers_see_an_entry_only_when_it_is_kept():
    log = kept()
    say(log, "a", "b", "c")
    assert (log.visible, log.after(0, 10)) == (0, [])
    assert numbers(log.unkept(2)) == [1, 2]
    log.keep(2)
    assert numbers(log.after(0, 10)) == [1, 2]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(log.wait_after, 2)
        await settle()
        assert numbers(log.unkept(10)) == [3]
        log.keep(3)
    assert numbers(log.after(2, 10)) == [3]


async def test_the_end_is_seen_only_when_it_is_kept():
    log = kept()
    say(log, "a")
    log.end()
    with trio.move_on_after(0) as waiting:
        await log.wait_after(1)
    assert waiting.cancelled_caught
    log.keep(1)
    await log.wait_after(1)
    await log.wait_unkept()
    assert log.unkept(10) == []


def test_what_is_not_kept_is_never_dropped():
    log = kept(limit=10 * ENTRY_COST)
    say(log, *"x" * 100)
    assert (log.dropped, numbers(log.unkept(1000))) == (0, list(range(1, 101)))
    log.keep(90)
    say(log, "y")
    assert 0 < log.dropped < 90
    assert numbers(log.unkept(1000)) == list(range(91, 102))


async def test_whoever_writes_more_than_is_kept_waits_for_room():
    log = kept(limit=10 * (ENTRY_COST + 1))
    say(log, *"x" * 10)
    assert log.has_room
    say(log, "x")
    assert not log.has_room
    async with trio.open_nursery() as nursery:
        nursery.start_soon(log.wait_room)
        await settle()
        log.unkept(5)
        log.keep(5)
        await settle()
        assert not log.has_room, "the rest is yet to be given out"
        log.unkept(100)
        log.keep(11)
    assert log.has_room


@pytest.mark.parametrize("seq", [0, 1, 3])
async def test_given_up_it_takes_back_what_nobody_saw_and_the_numbers_go_on_without_a_gap(seq):
    log = kept()
    say(log, "a", "b", "c")
    log.end()
    log.unkept(10)
    log.keep(seq)
    log.give_up_keeping()
    assert (log.last, log.ended, log.has_room) == (seq, False, True)
    say(log, "the end")
    log.end()
    assert numbers(log.after(0, 10)) == list(range(1, seq + 2))
    await log.wait_after(seq + 1)


def test_given_up_its_size_is_that_of_what_is_left():
    log = kept(limit=100_000)
    say(log, "x" * 90_000)
    log.give_up_keeping()
    say(log, *["y" * 1000] * 50)
    assert (log.last, log.dropped) == (50, 0)
