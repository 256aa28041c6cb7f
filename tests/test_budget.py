"""Daily token budgets: counted while a turn goes on, kept in the store, ended when they are passed."""

import pytest
import trio

from actors.errors import Code, Refusal
from actors.messages import Complete, Message, Start, Thinking, Usage
from clinvoker.budget import DAY, Budgets


class Book:
    """A store that keeps what it is told, unless it fails."""

    def __init__(self, kept=()):
        self.kept = list(kept)
        self.failing = False
        self.silent = False

    async def write(self, change):
        if self.silent:
            await trio.sleep_forever()
        if self.failing:
            raise Refusal(Code.STORAGE, "disk full")
        self.kept.append((change.owner, change.day, change.tokens))

    async def spending(self, day):
        spent = {}
        for owner, when, tokens in self.kept:
            if when == day:
                spent[owner] = spent.get(owner, 0) + tokens
        return spent


class Clock:
    def __init__(self):
        self.now = 100.0 * DAY + 3600

    def __call__(self):
        return self.now


@pytest.fixture
def book():
    return Book()


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def budgets(book, clock):
    return Budgets(book, clock)


def complete(tokens_in, tokens_out):
    return Complete("end_turn", Usage(input_tokens=tokens_in, output_tokens=tokens_out))


async def turn(budgets, *batches, daily=100, prompt="", owner="me"):
    async with budgets.metering(owner, daily, prompt) as meter:
        for batch in batches:
            meter([batch])


async def test_what_the_agent_counted_is_what_is_used(budgets, book):
    await turn(budgets, Start("m", ""), Message("12345678"), complete(30, 12))
    assert budgets.look("me", 100).remaining == 58
    assert book.kept == [("me", 100, 42)]


async def test_what_no_agent_counted_is_estimated(budgets):
    await turn(budgets, Message("a" * 40), Thinking("b" * 40), prompt="c" * 40)
    assert budgets.look("me", 100).remaining == 70


async def test_a_turn_that_passes_the_budget_is_stopped_then_and_there(budgets, book):
    with pytest.raises(Refusal) as stopped:
        await turn(budgets, *[Message("four" * 10)] * 1000)
    assert stopped.value.code is Code.RATE_LIMITED
    assert stopped.value.retry_after == DAY - 3600
    assert book.kept == [("me", 100, 100)], "what it used counts all the same"


async def test_turns_beside_each_other_share_the_budget(budgets):
    async with budgets.metering("me", 100, "") as one, budgets.metering("me", 100, "") as other:
        one([Message("a" * 240)])
        other([Message("a" * 120)])
        with pytest.raises(Refusal):
            one([Message("a" * 80)])


async def test_an_answer_that_is_there_is_given(budgets):
    await turn(budgets, complete(1000, 1000))
    with pytest.raises(Refusal) as refused:
        await turn(budgets)
    assert refused.value.code is Code.RATE_LIMITED


async def test_another_key_and_another_day_are_not_concerned(budgets, clock):
    await turn(budgets, complete(100, 0))
    await turn(budgets, complete(1, 0), owner="other")
    clock.now += DAY
    assert budgets.look("me", 100).remaining == 100
    await turn(budgets, complete(1, 0))
    assert budgets.look("me", 100).remaining == 99
    assert budgets.look("me", 100).reset == DAY - 3600


async def test_a_restart_forgets_nothing(budgets, book, clock):
    await turn(budgets, complete(60, 0))
    await turn(budgets, complete(40, 0))
    with pytest.raises(Refusal):
        await turn(Budgets(book, clock), complete(1, 0))


async def test_what_cannot_be_known_is_not_given_out(budgets, book):
    async def fail(_):
        raise Refusal(Code.STORAGE, "gone")

    book.spending = fail
    with pytest.raises(Refusal) as refused:
        await turn(budgets, complete(1, 0))
    assert refused.value.code is Code.STORAGE


async def test_a_store_that_fails_or_is_silent_holds_up_no_turn_for_long(budgets, book, autojump_clock):
    book.failing = True
    await turn(budgets, complete(1, 0))
    book.silent = True
    began = trio.current_time()
    await turn(budgets, complete(1, 0))
    assert trio.current_time() - began == 5
    assert budgets.look("me", 100).remaining == 98


async def test_a_cancelled_turn_is_stored_as_well(budgets, book):
    with trio.CancelScope() as scope:
        async with budgets.metering("me", 100, "") as meter:
            meter([Message("a" * 40)])
            scope.cancel()
            await trio.sleep_forever()
    assert book.kept == [("me", 100, 10)]


async def test_without_a_budget_nothing_is_asked_or_stored(book):
    book.spending = None
    await turn(Budgets(book), complete(10**9, 0), daily=None)
    assert book.kept == []
