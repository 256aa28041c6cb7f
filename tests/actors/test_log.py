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
