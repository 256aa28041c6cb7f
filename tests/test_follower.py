"""Following: from the run itself while it goes, from the store after it, and from the one to the other in between."""

from contextlib import closing

import pytest

from actors.actor import Actor
from actors.errors import Code, Refusal
from actors.messages import Complete, Failed, Message, Start
from actors.run import Follow, Identity
from clinvoker.follower import MOST, Follower
from clinvoker.keeping import RunJournal
from clinvoker.store import PutSession
from tests.actors.support import running
from tests.store.support import a_run, a_session, open_store
from tests.test_keeping import entries

WHO = Identity("run_1", a_session().id, "claude", owner="me")
COUNT = 1200
ALL = entries(Start("m", "/w"), *[Message(str(number)) for number in range(COUNT)], Complete("end_turn"))


@pytest.fixture
async def store(tmp_path, nursery):
    async with open_store(tmp_path) as store:
        await store.write(PutSession(a_session()))
        yield store


async def keep(store, some):
    journal = RunJournal(store, a_run(session=a_session().id))
    for start in range(0, len(some), 300):
        await journal.append(some[start : start + 300])


class Source(Actor):
    """Stands for a run: tells these pages, and then ends, fails, or breaks off."""

    def __init__(self, pages, error=None):
        super().__init__()
        self.pages = pages
        self.error = error

    async def admit(self, message):
        assert isinstance(message, Follow)

    async def produce(self, _message, emit):
        for page in self.pages:
            await emit(page)
        if self.error is not None:
            raise self.error


async def read(follower):
    with closing(follower):
        return [entry async for page in follower for entry in page]


async def follow_live(store, source, after=0):
    async with running(source) as one:
        return await read(Follower(WHO, store, await one.ref.stream(Follow(after)), after))


def numbers(found):
    return [entry.seq for entry in found]


@pytest.mark.parametrize("after", [0, 1, MOST, COUNT, COUNT + 1])
async def test_a_stored_run_is_told_from_any_point(store, after):
    await keep(store, ALL)
    assert await read(Follower(WHO, store, None, after)) == ALL[after:]


@pytest.mark.parametrize("after", [COUNT + 2, COUNT + 3, 10**15])
async def test_whoever_has_the_end_gets_nothing_more(store, after):
    await keep(store, ALL)
    assert await read(Follower(WHO, store, None, after)) == []


async def test_a_live_run_is_told_to_its_last_entry_and_no_further(store):
    found = await follow_live(store, Source([ALL[:5], ALL[5:], entries(Message("late"), first=COUNT + 3)]))
    assert found == ALL


async def test_where_the_run_breaks_off_the_rest_comes_from_the_store(store):
    """It has ended while a slow reader was reading: what it had is stored."""
    await keep(store, ALL)
    assert await follow_live(store, Source([ALL[:700]], ValueError("broke off"))) == ALL
    assert await follow_live(store, Source([], ValueError("broke off")), after=9) == ALL[9:]


async def test_where_the_run_breaks_off_with_nothing_stored_the_reader_is_told(store):
    found = await follow_live(store, Source([ALL[:3]], ValueError("broke off")))
    assert numbers(found) == [1, 2, 3, 4]
    assert found[-1].content.code is Code.INTERNAL


async def test_where_the_run_breaks_off_before_its_end_is_stored_the_reader_is_told(store):
    await keep(store, ALL[:10])
    found = await follow_live(store, Source([ALL[:3]], ValueError("broke off")))
    assert found[:-1] == ALL[:10]
    assert (found[-1].content.code, found[-1].seq) == (Code.INTERNAL, 11)


async def test_a_stored_run_without_an_end_is_told_as_such(store):
    await keep(store, ALL[:10])
    found = await read(Follower(WHO, store, None, 4))
    assert numbers(found) == [5, 6, 7, 8, 9, 10, 11]
    assert isinstance(found[-1].content, Failed)


async def test_what_keeps_the_reader_from_the_rest_is_its_last_entry(store):
    found = await follow_live(store, Source([ALL[:3]], Refusal(Code.READER_TOO_SLOW, "too slow")))
    assert [entry.content.code for entry in found[3:]] == [Code.READER_TOO_SLOW]


async def test_a_store_that_fails_is_told_too(tmp_path):
    async with open_store(tmp_path) as store:
        pass
    found = await read(Follower(WHO, store, None, 4))
    assert [(entry.content.code, entry.seq) for entry in found] == [(Code.STORAGE, 5)]


async def test_closed_it_tells_nothing_more(store):
    await keep(store, ALL)
    follower = Follower(WHO, store, None)
    await anext(follower)
    follower.close()
    assert await read(follower) == []
