import os
import random
import re
import shutil
import sqlite3
import stat
from contextlib import closing

import pytest

from actors.errors import Refusal
from clinvoker.store import (
    AddNote,
    BeginRun,
    Database,
    PutSession,
    SessionFilter,
    StoreError,
    database,
    schema,
)
from clinvoker.store.events import events_after
from clinvoker.store.listing import list_sessions
from clinvoker.store.notes import get_note
from clinvoker.store.schema import VERSION, is_ours
from clinvoker.store.sessions import get_session
from clinvoker.store.turns import turns_of
from tests.store.support import Clock, a_run, a_session, apply, fresh, sample


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def set_aside_in(directory):
    return sorted(path for path in directory.iterdir() if ".corrupt-" in path.name)


@pytest.mark.parametrize("umask", [0o000, 0o777])
def test_directory_and_files_are_the_users_alone_whatever_the_umask(tmp_path, umask):
    directory = tmp_path / "state"
    directory.mkdir(mode=0o700)
    previous = os.umask(umask)
    try:
        connection = Database(directory).open()
    finally:
        os.umask(previous)
    with closing(connection):
        apply(connection, PutSession(a_session()))
        files = {path.name: mode(path) for path in directory.iterdir()}
    assert files == {"state.db": 0o600, "state.db-wal": 0o600, "state.db-shm": 0o600}


def test_a_missing_directory_is_created_for_the_user_alone(tmp_path):
    with fresh(tmp_path / "a" / "state"):
        assert mode(tmp_path / "a" / "state") == 0o700


def test_files_that_others_could_read_are_closed_to_them(tmp_path):
    tmp_path.chmod(0o700)
    with fresh(tmp_path):
        pass
    (tmp_path / "state.db").chmod(0o644)
    with fresh(tmp_path):
        assert mode(tmp_path / "state.db") == 0o600


@pytest.mark.parametrize("loose", [0o770, 0o707, 0o702])
def test_a_directory_that_others_can_write_is_refused(tmp_path, loose):
    tmp_path.chmod(loose)
    with pytest.raises(StoreError, match="written by others"):
        Database(tmp_path).prepare()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory away")
def test_a_directory_of_another_user_is_refused(tmp_path):
    tmp_path.chmod(0o700)
    os.chown(tmp_path, 12345, 12345)
    with pytest.raises(StoreError, match="another user"):
        Database(tmp_path).prepare()


def test_a_directory_that_is_a_file_is_refused_in_one_line(tmp_path):
    (tmp_path / "state").write_text("")
    with pytest.raises(StoreError) as refused:
        Database(tmp_path / "state").prepare()
    assert "\n" not in str(refused.value)


def test_acknowledged_means_on_the_disk(tmp_path):
    with fresh(tmp_path) as connection:
        found = {
            name: connection.execute(f"PRAGMA {name}").fetchone()[0]
            for name in (
                "journal_mode",
                "synchronous",
                "foreign_keys",
                "busy_timeout",
                "auto_vacuum",
                "user_version",
            )
        }
    assert found == {
        "journal_mode": "wal",
        "synchronous": 2,
        "foreign_keys": 1,
        "busy_timeout": 1000,
        "auto_vacuum": 2,
        "user_version": VERSION,
    }


def test_preparing_twice_changes_nothing_and_has_nothing_to_say(tmp_path):
    assert Database(tmp_path).prepare() == ""
    assert Database(tmp_path).prepare() == ""
    with fresh(tmp_path) as connection:
        assert is_ours(connection)


def test_a_newer_database_is_refused_in_one_line_and_left_alone(tmp_path):
    with fresh(tmp_path) as connection:
        connection.execute(f"PRAGMA user_version = {VERSION + 1}")
    with pytest.raises(StoreError, match="newer clinvoker") as refused:
        Database(tmp_path).prepare()
    assert "\n" not in str(refused.value)
    assert set_aside_in(tmp_path) == []


def test_a_migration_that_fails_leaves_nothing_behind(tmp_path, monkeypatch):
    with fresh(tmp_path):
        pass
    steps = (
        *schema.MIGRATIONS,
        "CREATE TABLE half (a INTEGER) STRICT; CREATE TABLE runs (a INTEGER) STRICT;",
    )
    monkeypatch.setattr(schema, "MIGRATIONS", steps)
    monkeypatch.setattr(database, "VERSION", len(steps))
    with closing(sqlite3.connect(tmp_path / "state.db", isolation_level=None)) as connection:
        with pytest.raises(sqlite3.OperationalError):
            schema.migrate(connection, VERSION)
        assert connection.execute("PRAGMA user_version").fetchone()[0] == VERSION
        assert connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'half'").fetchone() is None


def test_a_database_of_before_there_were_notes_takes_them(tmp_path):
    tmp_path.chmod(0o700)
    with closing(sqlite3.connect(tmp_path / "state.db", isolation_level=None)) as connection:
        for number, script in enumerate(schema.MIGRATIONS[:2], 1):
            connection.executescript(f"BEGIN;{script};PRAGMA user_version = {number};COMMIT;")
        apply(connection, BeginRun(a_run()))
    (tmp_path / "state.db").chmod(0o600)
    assert Database(tmp_path).prepare() == ""
    with fresh(tmp_path) as connection:
        assert is_ours(connection)
        apply(connection, AddNote("run_1", 0, b"noted"))
        assert get_note(connection, "run_1", 0) == b"noted"


def test_an_older_database_is_migrated_with_what_it_holds(tmp_path, monkeypatch):
    with fresh(tmp_path) as connection:
        first, *_ = sample(connection)
    steps = (*schema.MIGRATIONS, "CREATE TABLE extra (a INTEGER) STRICT;")
    monkeypatch.setattr(schema, "MIGRATIONS", steps)
    monkeypatch.setattr(database, "VERSION", len(steps))
    assert Database(tmp_path).prepare() == ""
    with fresh(tmp_path) as connection:
        assert connection.execute("PRAGMA user_version").fetchone()[0] == len(steps)
        assert get_session(connection, first.id, "me").title == "one"


def test_an_sqlite_that_is_too_old_is_refused_in_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 34, 1))
    with pytest.raises(StoreError, match=r"3\.37 or later"):
        Database(tmp_path).prepare()


def test_a_database_locked_by_another_process_is_refused_not_set_aside(tmp_path):
    with fresh(tmp_path):
        pass
    with closing(sqlite3.connect(tmp_path / "state.db", isolation_level=None)) as other:
        other.execute("PRAGMA locking_mode = EXCLUSIVE")
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreError, match="locked"):
            Database(tmp_path).prepare()
    assert set_aside_in(tmp_path) == []


def foreign(path):
    with closing(sqlite3.connect(path)) as other:
        other.execute("CREATE TABLE theirs (a)")
        other.commit()


def without_a_table(path):
    with closing(sqlite3.connect(path)) as other:
        other.execute("DROP TABLE events")
        other.commit()


def empty_beside_a_log(path):
    path.write_bytes(b"")
    path.with_name("state.db-wal").write_bytes(b"x" * 5000)


def only_a_log(path):
    path.unlink()
    path.with_name("state.db-wal").write_bytes(b"x" * 5000)


DAMAGES = [
    lambda path: path.write_bytes(b"garbage" * 5000),
    lambda path: path.write_bytes(b"x"),
    lambda path: path.write_bytes(b"\0" * 8192),
    lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    lambda path: path.write_bytes(path.read_bytes()[:4096] + b"\xa5" * (path.stat().st_size - 4096)),
    foreign,
    without_a_table,
    empty_beside_a_log,
    only_a_log,
]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_set_aside_with_its_log_and_a_message_and_a_new_one_begins(tmp_path, damage):
    with fresh(tmp_path) as connection:
        sample(connection)
    path = tmp_path / "state.db"
    if damage is foreign:
        path.unlink()
    damage(path)
    left = {file.name: file.read_bytes() for file in tmp_path.iterdir() if not file.name.endswith("-shm")}
    one = Database(tmp_path, Clock())
    notice = one.prepare()
    aside = set_aside_in(tmp_path)
    assert re.search(r"set aside as state\.db\.corrupt-20270115T080000Z", notice)
    assert "\n" not in notice
    kept = {
        re.sub(r"\.corrupt-[0-9TZ-]+?(?=-wal|-shm|$)", "", file.name): file.read_bytes() for file in aside
    }
    for name, data in kept.items():
        assert name.endswith("-shm") or left.get(name, b"") == data
    assert left.keys() <= kept.keys()
    with closing(one.open()) as connection:
        assert list_sessions(connection, SessionFilter(owner="me")).total == 0
        apply(connection, PutSession(a_session()))


def test_files_set_aside_in_the_same_second_do_not_replace_each_other(tmp_path):
    for number in range(3):
        (tmp_path / "state.db").write_bytes(b"%d" % number * 3000)
        Database(tmp_path, Clock()).prepare()
    assert len({file.read_bytes() for file in set_aside_in(tmp_path)}) == 3


def test_a_second_connection_of_the_same_daemon_ends_no_runs(tmp_path):
    one = Database(tmp_path, Clock())
    with closing(one.open()) as connection:
        *_, going = sample(connection)
    with closing(one.open()) as connection:
        assert connection.execute("SELECT status FROM runs WHERE id = ?", (going.id,)).fetchone() == (
            "running",
        )


def mutate(dice, path):
    """Damage a file in one of the ways that disks, people and other programs have."""
    data = bytearray(path.read_bytes())
    match dice.randrange(7):
        case 0:
            data[dice.randrange(len(data))] ^= 1 << dice.randrange(8)
        case 1:
            for _ in range(20):
                data[dice.randrange(len(data))] = dice.randrange(256)
        case 2:
            del data[dice.randrange(len(data)) :]
        case 3:
            page = dice.randrange(len(data) // 4096 + 1) * 4096
            data[page : page + 4096] = dice.choice([b"\0", b"\xff", b"S"]) * len(data[page : page + 4096])
        case 4:
            data[dice.randrange(min(100, len(data)))] = dice.randrange(256)
        case 5:
            data += dice.randbytes(dice.randrange(1, 9000))
        case _:
            start, target = dice.randrange(len(data)), dice.randrange(len(data))
            piece = data[start : start + 512]
            data[target : target + len(piece)] = piece
    path.write_bytes(data)


def use(connection, sessions):
    """Ask and change everything; whatever is damaged may be refused, and nothing else may happen."""
    for session in sessions:
        for ask in (
            lambda session=session: get_session(connection, session.id, session.owner),
            lambda session=session: turns_of(connection, session.id),
            lambda session=session: list_sessions(connection, SessionFilter(owner=session.owner, q="alpha")),
            lambda session=session: list_sessions(connection, SessionFilter(owner=session.owner, tag="red")),
            lambda: events_after(connection, "run_1", 0, 1000),
            lambda: apply(connection, PutSession(a_session(9))),
        ):
            try:
                ask()
            except (sqlite3.DatabaseError, Refusal):
                continue


@pytest.mark.parametrize("part", range(4))
def test_no_damage_of_any_kind_crashes_or_is_silently_replaced(tmp_path, part):
    source = tmp_path / "source"
    with fresh(source) as connection:
        connection.execute("PRAGMA wal_autocheckpoint = 0")
        sessions = sample(connection)[:2]
        if part % 2:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        apply(connection, PutSession(a_session(7)))
        image = tmp_path / "image"
        shutil.copytree(source, image)
    dice = random.Random(part)  # noqa: S311 - mutations
    for number in range(50):
        directory = tmp_path / str(number)
        shutil.copytree(image, directory)
        (directory / "state.db-shm").unlink()
        path = directory / ("state.db-wal" if dice.random() < 0.2 else "state.db")
        mutate(dice, path)
        damaged = path.read_bytes()
        one = Database(directory, Clock())
        try:
            notice = one.prepare()
        except StoreError as error:
            assert "newer clinvoker" in str(error)  # noqa: PT017 - one of three good ends
            assert set_aside_in(directory) == []
            continue
        aside = set_aside_in(directory)
        assert bool(notice) == bool(aside)
        if aside:
            assert damaged in {file.read_bytes() for file in aside}
        with closing(one.open()) as connection:
            use(connection, sessions)
        shutil.rmtree(directory)
