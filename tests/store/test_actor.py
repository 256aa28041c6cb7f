import threading
from contextlib import asynccontextmanager

import pytest
import trio

from actors.errors import Code, Refusal
from clinvoker.store import (
    AddTurn,
    AppendEvents,
    BeginRun,
    Database,
    DeleteSession,
    EditSession,
    FinishRun,
    PutSession,
    SessionFilter,
    Store,
    StoreClient,
    StoreLimits,
    readers,
)
from tests.actors.support import leaves, running, settle
from tests.store.support import (
    DAY,
    NOW,
    Clock,
    a_finished_turn,
    a_run,
    a_session,
    a_turn,
    open_store,
    some_events,
)

MINE = SessionFilter(owner="me")


class Gate:
    """Holds the writer before each transaction while it is shut, and remembers the groups that came."""

    def __init__(self, store):
        self.groups = []
        self._open = threading.Event()
        self._open.set()
        self._apply = store.actor._writer.apply
        store.actor._writer.apply = self

    def __call__(self, writes):
        self._open.wait(5)
        self.groups.append(len(writes))
        return self._apply(writes)

    @asynccontextmanager
    async def shut(self, store):
        """Shut it with one write in the writer's hand, so that all that come later wait together."""
        self._open.clear()
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(store.write, PutSession(a_session(999, owner="gate")))
                await settle()
                yield nursery
                await settle()
                self._open.set()
        finally:
            self._open.set()


async def test_what_was_written_is_read(tmp_path):
    async with open_store(tmp_path) as store:
        session, run = a_session(tags=("a",)), a_run(session=a_session().id, idempotency_key="k")
        await store.write(
            PutSession(session), BeginRun(run), *a_finished_turn(session), some_events(run, 1, 3)
        )
        page = await store.sessions(SessionFilter(owner="me", q="that", tag="a"))
        assert [found.id for found in page.sessions] == [session.id]
        assert (await store.session(session.id[:10], "me")).turns == 1
        assert [turn.output for turn in await store.turns(session.id)] == ["that"]
        assert (await store.run(run.id, "me")) == run
        assert (await store.idempotent("me", "k", NOW)) == run
        assert len(await store.events(run.id, 1)) == 2
        assert (await store.counts()).sessions == 1


async def test_what_was_written_is_there_after_a_restart(tmp_path):
    async with open_store(tmp_path) as store:
        await store.write(PutSession(a_session()))
    async with open_store(tmp_path) as store:
        assert (await store.session(a_session().id, "me")) == a_session()


async def test_a_write_is_made_whole_or_not_at_all(tmp_path):
    async with open_store(tmp_path) as store:
        with pytest.raises(Refusal) as refused:
            await store.write(PutSession(a_session()), EditSession("ses_none", title="t"))
        assert refused.value.code == Code.NOT_FOUND
        assert (await store.sessions(MINE)).total == 0


async def test_writes_that_wait_together_become_one_transaction(tmp_path):
    async with open_store(tmp_path) as store:
        gate = Gate(store)
        async with gate.shut(store) as nursery:
            for number in range(1, 51):
                nursery.start_soon(store.write, PutSession(a_session(number)))
        assert gate.groups == [1, 50]
        assert (await store.sessions(MINE)).total == 50


async def test_a_group_is_bounded(tmp_path):
    async with open_store(tmp_path, StoreLimits(group=100_000)) as store:
        gate = Gate(store)
        async with gate.shut(store) as nursery:
            for number in range(1, 7):
                nursery.start_soon(store.write, PutSession(a_session(number, title="x" * 60_000)))
        assert gate.groups == [1, 2, 2, 2]


async def test_a_bad_write_fails_alone(tmp_path):
    failures = {}

    async def write(number, *changes):
        try:
            await store.write(*changes)
        except Refusal as refusal:
            failures[number] = refusal.code

    unencodable = PutSession(a_session(3, title="\ud800"))
    out_of_range = AddTurn(a_turn(a_session(4), started="never"))
    async with open_store(tmp_path) as store:
        async with Gate(store).shut(store) as nursery:
            nursery.start_soon(write, 1, PutSession(a_session(1)))
            nursery.start_soon(write, 2, PutSession(a_session(2)), DeleteSession("ses_none"))
            nursery.start_soon(write, 3, unencodable)
            nursery.start_soon(write, 4, PutSession(a_session(4)), out_of_range)
            nursery.start_soon(write, 5, PutSession(a_session(5)))
        assert failures == {2: Code.NOT_FOUND, 3: Code.STORAGE, 4: Code.STORAGE}
        page = await store.sessions(MINE)
        assert sorted(int(session.id[4:], 16) for session in page.sessions) == [1, 5]


async def test_writes_are_made_in_the_order_in_which_they_came(tmp_path):
    async with open_store(tmp_path) as store:
        run = a_run()
        await store.write(BeginRun(run))
        async with Gate(store).shut(store) as nursery:
            for seq in range(1, 30):
                nursery.start_soon(store.write, some_events(run, seq, seq))
                await settle()
        assert len(await store.events(run.id, 0)) == 29


async def test_a_writer_that_leaves_takes_nothing_along(tmp_path):
    async with open_store(tmp_path) as store:
        async with Gate(store).shut(store) as nursery:
            with trio.move_on_after(0):
                await store.write(PutSession(a_session(1)))
            with trio.CancelScope() as scope:
                nursery.start_soon(store.write, PutSession(a_session(2)))
                await settle()
                scope.cancel()
        await store.write(PutSession(a_session(3)))
        assert {session.id for session in (await store.sessions(MINE)).sessions} >= {
            a_session(2).id,
            a_session(3).id,
        }


async def test_room_is_given_back_by_a_writer_that_leaves(tmp_path):
    async with open_store(tmp_path) as store:
        async with Gate(store).shut(store) as nursery:
            await cancel_halfway(nursery, store, PutSession(a_session(1)))
            assert store._used < 2000
        await store.write(PutSession(a_session(2)))
        assert store._used == 0


async def cancel_halfway(nursery, store, change):
    scope = trio.CancelScope()

    async def write():
        with scope:
            await store.write(change)

    nursery.start_soon(write)
    await settle()
    scope.cancel()
    await settle()
    assert scope.cancelled_caught


async def test_whoever_has_more_than_there_is_room_for_waits(tmp_path):
    async with open_store(tmp_path) as store:
        narrow = StoreClient(store._ref, room=50_000)
        done = []

        async def write(number, size):
            await narrow.write(PutSession(a_session(number, title="x" * size)))
            done.append(number)

        async with Gate(store).shut(store) as nursery:
            for number, size in ((1, 30_000), (2, 30_000), (3, 100_000), (4, 10)):
                nursery.start_soon(write, number, size)
                await settle()
            assert len(store.actor._waiting) == 1
            assert narrow._used < 50_000
        assert sorted(done) == [1, 2, 3, 4]
        assert narrow._used == 0


async def test_reads_do_not_wait_for_a_writer(tmp_path):
    async with open_store(tmp_path) as store:
        await store.write(PutSession(a_session()))
        async with Gate(store).shut(store):
            with trio.fail_after(2):
                assert (await store.sessions(MINE)).total == 1


async def test_what_was_accepted_is_written_before_the_store_stops(tmp_path):
    acknowledged = []

    async def write(number):
        await store.write(PutSession(a_session(number)))
        acknowledged.append(number)

    async with open_store(tmp_path) as store, Gate(store).shut(store) as nursery:
        for number in range(1, 21):
            nursery.start_soon(write, number)
        await settle()
        nursery.start_soon(store.one.child.stop)
    assert len(acknowledged) == 20
    async with open_store(tmp_path) as store:
        assert (await store.sessions(MINE)).total == 20


async def test_a_store_that_has_stopped_refuses(tmp_path):
    async with open_store(tmp_path) as store:
        await store.one.child.stop()
        for call in (lambda: store.write(PutSession(a_session())), store.counts):
            with pytest.raises(Refusal) as refused:
                await call()
            assert refused.value.code == Code.STORAGE


async def test_an_incarnation_that_takes_over_ends_no_runs(tmp_path):
    database = Database(tmp_path, Clock())
    assert database.prepare() == ""
    for number in (1, 2):
        async with open_store(tmp_path, database=database) as store:
            await store.write(BeginRun(a_run()), *([some_events(a_run(), 1, 2)] if number == 1 else []))
            assert (await store.run("run_1", "me")).status == "running"
    async with open_store(tmp_path) as store:
        assert (await store.run("run_1", "me")).status == "error"


async def test_a_store_that_cannot_open_crashes_with_a_clear_word(tmp_path):
    tmp_path.chmod(0o777)
    async with running(Store(Database(tmp_path))) as one:
        await one.ended.wait()
    [error] = leaves(one.error)
    assert "written by others" in str(error)


async def test_what_nobody_can_look_for_is_refused(tmp_path):
    async with open_store(tmp_path) as store:
        for wanted in (SessionFilter(owner="\ud800"), SessionFilter(owner="me", q="a\ud800")):
            with pytest.raises(Refusal) as refused:
                await store.sessions(wanted)
            assert refused.value.code == Code.INVALID_REQUEST
        assert (await store.sessions(MINE)).total == 0


async def test_a_query_that_takes_too_long_is_broken_off(tmp_path, monkeypatch):
    async with open_store(tmp_path) as store:
        await store.write(*(PutSession(a_session(number)) for number in range(1, 50)))
        with monkeypatch.context() as patch:
            patch.setattr(readers, "_MOST_SECONDS", -1.0)
            patch.setattr(readers, "_STEPS", 1)
            with pytest.raises(Refusal, match="too long"):
                await store.sessions(MINE)
        assert (await store.sessions(MINE)).total == 49


async def wait_until(condition):
    with trio.fail_after(10):
        while not await condition():
            await trio.sleep(0.01)


async def test_what_is_too_old_goes_by_itself(tmp_path):
    clock = Clock()
    limits = StoreLimits(retention=30 * DAY, housekeeping=0.02)
    async with open_store(tmp_path, limits, clock=clock) as store:
        await store.write(*(PutSession(a_session(number)) for number in range(1, 121)))
        await trio.sleep(0.1)
        assert (await store.sessions(MINE)).total == 120
        clock.now += 31 * DAY

        async def gone():
            return (await store.sessions(MINE)).total == 0

        await wait_until(gone)


async def test_without_retention_nothing_goes(tmp_path):
    limits = StoreLimits(retention=None, housekeeping=0.01)
    async with open_store(tmp_path, limits) as store:
        await store.write(PutSession(a_session(updated=0.0)))
        await trio.sleep(0.1)
        assert (await store.sessions(MINE)).total == 1


async def test_beyond_its_size_the_store_lets_the_oldest_go(tmp_path):
    limits = StoreLimits(size=4_000_000)
    async with open_store(tmp_path, limits) as store:
        for number in range(1, 401):
            run = a_run(number, began=NOW + number)
            events = AppendEvents(run.id, 1, 1, b"x" * 50_000 + b"\n")
            await store.write(BeginRun(run), events, FinishRun(run.id, "complete", NOW + number))

        async def within():
            return (await store.counts()).size < 4_000_000

        await wait_until(within)
        assert (await store.run("run_1", "me")) is None
        assert (await store.run("run_400", "me")).status == "complete"
