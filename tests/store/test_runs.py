import json
import random

import pytest

from actors.errors import Code, Refusal
from actors.messages import Entry, Failed
from clinvoker.store import (
    AddNote,
    AddTurn,
    AppendEvents,
    BeginRun,
    Database,
    FinishRun,
    PutSession,
    decode_entries,
)
from clinvoker.store.events import MOST_BYTES, events_after
from clinvoker.store.interrupted import interrupt_running
from clinvoker.store.notes import get_note
from clinvoker.store.runs import KEY_SECONDS, find_idempotent, get_run
from clinvoker.store.sessions import get_session
from clinvoker.store.turns import turns_of
from tests.store.support import (
    NOW,
    Clock,
    a_last_event,
    a_run,
    a_session,
    a_turn,
    apply,
    entries,
    fresh,
    some_events,
)


@pytest.fixture
def connection(tmp_path):
    with fresh(tmp_path) as connection:
        yield connection


def seqs(lines):
    """The numbers that the texts of these events name."""
    return [int(json.loads(line)[1]["text"].removeprefix("w")) for line in lines]


def all_of(connection, run):
    lines = events_after(connection, run.id, 0, 10_000)
    return decode_entries(lines, 0, run.id, run.backend, run.session or "")


def test_a_run_comes_out_as_it_went_in(connection):
    run = a_run(session="ses_1", idempotency_key="k", body_hash=b"\0\1")
    apply(connection, BeginRun(run))
    assert get_run(connection, run.id, "me") == run


def test_a_run_ends_once(connection):
    run = a_run()
    apply(connection, BeginRun(run))
    apply(connection, FinishRun(run.id, "complete", NOW + 1, b"{}"), FinishRun(run.id, "error", NOW + 2))
    stored = get_run(connection, run.id, "me")
    assert (stored.status, stored.ended, stored.outcome) == ("complete", NOW + 1, b"{}")


def test_an_answer_of_a_run_has_one_note_that_goes_with_the_run(connection):
    run = a_run()
    apply(connection, AddNote(run.id, 0, b"too early"))
    assert get_note(connection, run.id, 0) is None
    apply(connection, BeginRun(run), AddNote(run.id, 0, b"first"), AddNote(run.id, 7, b"second"))
    apply(connection, AddNote(run.id, 0, b"again"))
    assert (get_note(connection, run.id, 0), get_note(connection, run.id, 7)) == (b"first", b"second")
    connection.execute("DELETE FROM runs")
    assert connection.execute("SELECT count(*) FROM notes").fetchone() == (0,)


def test_the_run_of_another_owner_is_not_there(connection):
    apply(connection, BeginRun(a_run(owner="you", idempotency_key="k")))
    assert get_run(connection, "run_1", "me") is None
    assert find_idempotent(connection, "me", "k", NOW) is None


def test_a_run_that_is_sent_again_is_stored_once(connection):
    apply(connection, BeginRun(a_run(idempotency_key="k")), BeginRun(a_run(idempotency_key="k")))
    assert find_idempotent(connection, "me", "k", NOW).id == "run_1"


def test_an_idempotency_key_names_its_run_for_a_day(connection):
    run = a_run(1, idempotency_key="k", body_hash=b"h")
    apply(connection, BeginRun(run), BeginRun(a_run(2, owner="you", idempotency_key="k")))
    assert find_idempotent(connection, "me", "k", NOW + KEY_SECONDS - 1) == run
    with pytest.raises(Refusal) as refused:
        apply(connection, BeginRun(a_run(3, idempotency_key="k", began=NOW + KEY_SECONDS - 1)))
    assert refused.value.param == "Idempotency-Key"
    assert find_idempotent(connection, "me", "k", NOW + KEY_SECONDS) is None
    apply(connection, BeginRun(a_run(4, idempotency_key="k", began=NOW + KEY_SECONDS)))
    assert find_idempotent(connection, "me", "k", NOW + KEY_SECONDS).id == "run_4"


def test_events_are_read_from_anywhere_exactly_once_and_in_order(connection):
    run, dice = a_run(), random.Random(1)  # noqa: S311 - sizes of batches
    apply(connection, BeginRun(run))
    last = 0
    while last < 300:
        size = dice.randint(1, 40)
        apply(connection, some_events(run, last + 1, last + size))
        last += size
    for start in (0, 1, 17, 150, last - 1):
        read, seq = [], start
        while page := events_after(connection, run.id, seq, dice.randint(1, 50)):
            read += seqs(page)
            seq = read[-1]
        assert read == list(range(start + 1, last + 1))
    assert events_after(connection, run.id, last, 10) == []
    assert events_after(connection, "run_none", 0, 10) == []


def test_a_batch_must_follow_the_last_one_without_a_gap(connection):
    run = a_run()
    apply(connection, BeginRun(run), some_events(run, 1, 5))
    for first, last in ((5, 6), (7, 8), (2, 3), (1, 6)):
        with pytest.raises(Refusal) as refused:
            apply(connection, some_events(run, first, last))
        assert refused.value.code == Code.STORAGE
    assert seqs(events_after(connection, run.id, 0, 10)) == [1, 2, 3, 4, 5]


def test_a_batch_that_is_sent_again_is_stored_once(connection):
    run = a_run()
    apply(connection, BeginRun(run), some_events(run, 1, 5), some_events(run, 1, 5), some_events(run, 6, 7))
    apply(connection, some_events(run, 1, 5))
    assert seqs(events_after(connection, run.id, 0, 10)) == list(range(1, 8))


@pytest.mark.parametrize("lines", [b"", b"a", b"a\nb\nc\n", b"a\nb", b"a\n\nb"])
def test_lines_and_numbers_must_agree(connection, lines):
    apply(connection, BeginRun(a_run()))
    with pytest.raises(Refusal):
        apply(connection, AppendEvents("run_1", 1, 2, lines))


def test_events_of_a_run_that_is_not_there_are_refused(connection):
    with pytest.raises(Refusal) as refused:
        apply(connection, some_events(a_run(), 1, 1))
    assert refused.value.code == Code.NOT_FOUND


def test_pages_of_large_events_are_small(connection):
    run = a_run()
    apply(connection, BeginRun(run))
    line = b'"' + b"x" * (MOST_BYTES // 2) + b'"\n'
    apply(connection, *(AppendEvents(run.id, seq, seq, line) for seq in range(1, 6)))
    assert [len(events_after(connection, run.id, seq, 100)) for seq in (0, 2, 4)] == [2, 2, 1]


def test_what_was_running_is_ended_by_exactly_one_error(tmp_path):
    session, run, silent = a_session(), a_run(1, session=a_session().id), a_run(2)
    with fresh(tmp_path) as connection:
        turn = AddTurn(a_turn(session, prompt="interrupted words"))
        apply(
            connection,
            PutSession(session),
            BeginRun(run),
            BeginRun(silent),
            turn,
            some_events(run, 1, 7, session.id),
        )
    for _ in range(3):
        Database(tmp_path, Clock(NOW + 60)).prepare()
    with fresh(tmp_path) as connection:
        events = all_of(connection, run)
        assert [event.seq for event in events] == list(range(1, 9))
        message = "the daemon was stopped before the run had ended"
        failed = Failed(Code.INTERRUPTED, message, type="api_error")
        assert events[:-1] == entries(run, 1, 7, session.id)
        assert events[-1] == Entry(
            "error", "claude", failed, "2027-01-15T08:01:00.000Z", run.id, 8, session.id
        )
        assert [event.type for event in all_of(connection, silent)] == ["error"]
        stored = get_run(connection, run.id, "me")
        assert (stored.status, stored.ended, json.loads(stored.outcome)["code"]) == (
            "error",
            NOW + 60,
            "interrupted",
        )
        [turn] = turns_of(connection, session.id)
        assert (turn.code, turn.ended) == ("interrupted", NOW + 60)
        assert get_session(connection, session.id, "me").status == "error"


def test_a_run_whose_last_event_was_stored_gets_no_second_one(connection):
    run, fan_out = a_run(1), a_run(2)
    apply(connection, BeginRun(run), BeginRun(fan_out))
    apply(connection, some_events(run, 1, 2), a_last_event(run, 3))
    apply(connection, some_events(fan_out, 1, 2), a_last_event(fan_out, 3, task=0))
    assert interrupt_running(connection, NOW + 60) == 2
    assert [event.type for event in all_of(connection, run)][-2:] == ["message", "complete"]
    assert [event.type for event in all_of(connection, fan_out)][-2:] == ["complete", "error"]
    stored = get_run(connection, run.id, "me")
    assert (stored.status, json.loads(stored.outcome)["output"]) == ("complete", "done")


def test_a_run_with_a_last_line_that_cannot_be_read_is_ended_all_the_same(connection):
    run = a_run()
    apply(connection, BeginRun(run), AppendEvents(run.id, 1, 1, b"\xff{[\n"))
    interrupt_running(connection, NOW)
    assert b'"interrupted"' in events_after(connection, run.id, 1, 10)[0]
