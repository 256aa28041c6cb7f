"""The disk fails: whoever writes is told, nobody else is harmed, and the next write after the fault succeeds."""

import shutil
import sqlite3
from contextlib import closing

import pytest
import trio

from actors.errors import Code, Refusal
from clinvoker.store import AppendEvents, BeginRun, Database, PutSession, SessionFilter
from clinvoker.store.events import events_after
from clinvoker.store.writer import Writer
from tests.store.support import Clock, a_finished_turn, a_run, a_session, fresh, open_store, some_events

MINE = SessionFilter(owner="me")


async def refused(store, *changes):
    with pytest.raises(Refusal) as refusal:
        await store.write(*changes)
    assert refusal.value.code == Code.STORAGE
    assert "\n" not in refusal.value.message
    return refusal.value.message


def fill(store, room):
    connection = store.actor._writer._connection
    pages = connection.execute("PRAGMA page_count").fetchone()[0]
    connection.execute(f"PRAGMA max_page_count = {pages + room}")


def empty(store):
    store.actor._writer._connection.execute("PRAGMA max_page_count = 1000000")


def large(run, seq=1):
    return AppendEvents(run.id, seq, seq, b"x" * 200_000 + b"\n")


async def test_a_full_disk_refuses_and_goes_on_once_there_is_room(tmp_path):
    run = a_run()
    async with open_store(tmp_path) as store:
        await store.write(BeginRun(run), PutSession(a_session()))
        fill(store, 0)
        for _ in range(3):
            assert "the disk is full" in await refused(store, large(run))
            assert (await store.sessions(MINE)).total == 1
        empty(store)
        await store.write(large(run))
        assert len(await store.events(run.id, 0)) == 1


async def test_what_still_fits_is_written_when_another_writer_of_the_group_does_not(tmp_path):
    run, failures = a_run(), {}

    async def write(number, *changes):
        try:
            await store.write(*changes)
        except Refusal as refusal:
            failures[number] = refusal.code

    async with open_store(tmp_path) as store:
        await store.write(BeginRun(run), PutSession(a_session()))
        fill(store, 10)
        async with trio.open_nursery() as nursery:
            for number in range(1, 6):
                nursery.start_soon(
                    write, number, large(run) if number == 3 else PutSession(a_session(number))
                )
        assert failures == {3: Code.STORAGE}
        assert (await store.sessions(MINE)).total == 4


async def test_a_database_locked_by_another_is_refused_within_a_second_and_can_be_read(tmp_path):
    async with open_store(tmp_path) as store:
        await store.write(PutSession(a_session(1)))
        with closing(sqlite3.connect(tmp_path / "state.db", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            began = trio.current_time()
            assert "locked" in await refused(store, PutSession(a_session(2)))
            assert trio.current_time() - began < 1.5
            assert (await store.sessions(MINE)).total == 1
            other.execute("ROLLBACK")
        await store.write(PutSession(a_session(2)))
        assert (await store.sessions(MINE)).total == 2


class ReadOnly(Database):
    """A database whose file can at times only be read, as root would never find by modes alone."""

    read_only = False

    def _connect(self):
        connection = super()._connect()
        if not self.read_only:
            return connection
        connection.close()
        return sqlite3.connect(
            f"file:{self.path}?mode=ro", uri=True, isolation_level=None, check_same_thread=False
        )


async def test_a_read_only_database_is_refused_and_can_be_read(tmp_path):
    database = ReadOnly(tmp_path, Clock())
    async with open_store(tmp_path, database=database) as store:
        await store.write(PutSession(a_session(1)))
        store.actor._writer.close()
        database.read_only = True
        for _ in range(2):
            assert "read-only" in await refused(store, PutSession(a_session(2)))
        assert (await store.sessions(MINE)).total == 1
        database.read_only = False
        await store.write(PutSession(a_session(2)))
        assert (await store.sessions(MINE)).total == 2


async def test_a_file_that_was_removed_is_begun_anew_instead_of_writing_into_nothing(tmp_path):
    directory = tmp_path / "state"
    async with open_store(directory) as store:
        await store.write(PutSession(a_session(1)), BeginRun(a_run()))
        shutil.rmtree(directory)
        await store.write(PutSession(a_session(2)))
        assert [session.id for session in (await store.sessions(MINE)).sessions] == [a_session(2).id]
        with pytest.raises(Refusal):
            await store.write(some_events(a_run(), 1, 1))
    with fresh(directory) as connection:
        assert connection.execute("SELECT count(*) FROM sessions").fetchone() == (1,)


async def test_a_directory_that_cannot_be_used_is_refused_until_it_can(tmp_path):
    directory = tmp_path / "state"
    async with open_store(directory) as store:
        shutil.rmtree(directory)
        directory.write_text("in the way")
        await refused(store, PutSession(a_session(1)))
        with pytest.raises(Refusal):
            await store.sessions(MINE)
        directory.unlink()
        await store.write(PutSession(a_session(1)))
        assert (await store.sessions(MINE)).total == 1


async def test_damage_that_shows_while_running_is_set_aside_and_the_next_write_succeeds(tmp_path):
    async with open_store(tmp_path) as store:
        await store.write(PutSession(a_session(1)), BeginRun(a_run()), large(a_run()))
        await trio.to_thread.run_sync(store.actor._writer.aside, checkpoint)
        path = tmp_path / "state.db"
        size = path.stat().st_size
        store.actor._writer.close()
        with path.open("r+b") as file:
            file.seek(4096)
            file.write(b"\xa5" * (size - 4096))
        await refused(store, PutSession(a_session(2)))
        await store.write(PutSession(a_session(2)))
        assert [session.id for session in (await store.sessions(MINE)).sessions] == [a_session(2).id]
        assert [file for file in tmp_path.iterdir() if ".corrupt-" in file.name]


def checkpoint(connection):
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()


class Failing:
    """A connection whose n-th call fails as a disk would, before or after it was done."""

    def __init__(self, connection, faults):
        self._connection = connection
        self._faults = faults

    def __getattr__(self, name):
        return getattr(self._connection, name)

    def execute(self, *args):
        return self._call(self._connection.execute, *args)

    def executemany(self, *args):
        return self._call(self._connection.executemany, *args)

    def _call(self, call, *args):
        self._faults.left -= 1
        if self._faults.left == 0:
            if self._faults.done_first:
                call(*args)
            error = sqlite3.OperationalError("disk I/O error")
            error.sqlite_errorcode = sqlite3.SQLITE_IOERR
            raise error
        return call(*args)


class FailingDatabase(Database):
    left = 0
    done_first = False

    def _connect(self):
        return Failing(super()._connect(), self)


@pytest.mark.parametrize("done_first", [False, True])
def test_a_fault_at_any_call_is_survived_and_the_same_write_then_made_once(tmp_path, done_first):
    database = FailingDatabase(tmp_path, Clock())
    writer = Writer(database)
    writer.open()
    database.done_first = done_first
    call = 0
    while True:
        call += 1
        session, run = a_session(call, tags=("a", "b")), a_run(call)
        write = (PutSession(session), *a_finished_turn(session), BeginRun(run), some_events(run, 1, 5))
        database.left = call
        writer.apply([write, (PutSession(a_session(1000 + call)),)])
        reached = database.left <= 0
        database.left = 0
        assert writer.apply([write]) == [None]
        connection = writer._connection
        assert len(events_after(connection, run.id, 0, 100)) == 5
        assert connection.execute("SELECT turns FROM sessions WHERE id = ?", (session.id,)).fetchone() == (1,)
        if not reached:
            break
    assert call > 20
    assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    writer.close()
