import pytest

from clinvoker.store import AddTurn, AppendEvents, BeginRun, FinishRun, PutSession
from clinvoker.store.events import events_after
from clinvoker.store.listing import used_bytes
from clinvoker.store.retention import expire, give_back, over, purge_oldest
from clinvoker.store.runs import get_run
from clinvoker.store.sessions import get_session
from clinvoker.store.turns import turns_of
from tests.store.support import DAY, NOW, a_finished_turn, a_run, a_session, a_turn, apply, fresh, some_events


@pytest.fixture
def connection(tmp_path):
    with fresh(tmp_path) as connection:
        yield connection


def finished(run, events=3):
    return BeginRun(run), some_events(run, 1, events), FinishRun(run.id, "complete", run.began + 1)


def test_what_is_older_goes_and_what_is_younger_stays(connection):
    old, young = a_session(1, updated=NOW - 31 * DAY), a_session(2, updated=NOW - 29 * DAY)
    apply(
        connection,
        PutSession(old),
        PutSession(young),
        *finished(a_run(1, session=old.id, began=NOW - 29 * DAY)),
    )
    apply(connection, *finished(a_run(2, began=NOW - 31 * DAY)), *finished(a_run(3, began=NOW - 29 * DAY)))
    assert expire(connection, NOW - 30 * DAY) == 2
    assert get_session(connection, old.id, "me") is None
    assert get_session(connection, young.id, "me") == young
    gone = [get_run(connection, f"run_{number}", "me") is None for number in (1, 2, 3)]
    assert gone == [True, True, False]
    assert expire(connection, NOW - 30 * DAY) == 0


def test_a_session_in_use_keeps_its_turns_but_not_the_events_of_its_old_runs(connection):
    session = a_session(updated=NOW)
    run = a_run(session=session.id, began=NOW - 31 * DAY)
    apply(connection, PutSession(session), *a_finished_turn(session), *finished(run))
    expire(connection, NOW - 30 * DAY)
    assert len(turns_of(connection, session.id)) == 1
    assert events_after(connection, run.id, 0, 10) == []


def test_what_is_in_hand_never_expires(connection):
    session = a_session(updated=NOW - 99 * DAY)
    run = a_run(began=NOW - 99 * DAY)
    apply(connection, PutSession(session), BeginRun(run), AddTurn(a_turn(session, started=NOW - 99 * DAY)))
    assert expire(connection, NOW) == 0
    assert purge_oldest(connection) == 0


def test_expiry_goes_in_bounded_steps(connection):
    apply(connection, *(PutSession(a_session(number)) for number in range(1, 31)))
    apply(connection, *(change for number in range(1, 31) for change in finished(a_run(number))))
    steps = []
    while gone := expire(connection, NOW + 1000, 7):
        steps.append(gone)
    assert (max(steps), sum(steps)) == (7, 60)


def test_the_oldest_are_purged_first_whatever_they_are(connection):
    for number in range(1, 11):
        apply(connection, PutSession(a_session(number, updated=NOW + number * 2)))
        apply(connection, *finished(a_run(number, began=NOW + number * 2 + 1)))
    assert purge_oldest(connection, 6) == 6
    sessions = [number for number in range(1, 11) if get_session(connection, a_session(number).id, "me")]
    runs = [number for number in range(1, 11) if get_run(connection, f"run_{number}", "me")]
    assert sessions == runs == list(range(4, 11))


def test_those_of_one_age_are_purged_in_steps_too(connection):
    apply(connection, *(PutSession(a_session(number, updated=NOW)) for number in range(1, 11)))
    assert [purge_oldest(connection, 4) for _ in range(4)] == [4, 4, 2, 0]


def test_space_is_given_back(tmp_path):
    with fresh(tmp_path) as connection:
        give_space_back(connection, tmp_path / "state.db")


def give_space_back(connection, path):
    run = a_run()
    apply(connection, BeginRun(run), AppendEvents(run.id, 1, 1, b"x" * 20_000_000 + b"\n"))
    apply(connection, FinishRun(run.id, "complete", NOW))
    assert over(connection, 20_000_000)
    purge_oldest(connection)
    assert used_bytes(connection) < 1_000_000
    while give_back(connection):
        pass
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    assert path.stat().st_size < 10_000_000
