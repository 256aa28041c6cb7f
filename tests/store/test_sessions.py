import pytest

from actors.errors import Code, Refusal
from actors.messages import Options, Usage
from clinvoker.store import (
    AddTurn,
    Ambiguous,
    BeginRun,
    DeleteSession,
    EditSession,
    FinishTurn,
    ForkSession,
    PutSession,
    SessionFilter,
    SetConversation,
)
from clinvoker.store.events import events_after
from clinvoker.store.listing import list_sessions
from clinvoker.store.runs import get_run
from clinvoker.store.sessions import get_session
from clinvoker.store.turns import turns_of
from tests.store.support import NOW, a_finished_turn, a_run, a_session, a_turn, apply, fresh, some_events


@pytest.fixture
def connection(tmp_path):
    with fresh(tmp_path) as connection:
        yield connection


def found(connection, **wanted):
    return [session.id for session in list_sessions(connection, SessionFilter(owner="me", **wanted)).sessions]


def test_a_session_comes_out_as_it_went_in(connection):
    session = a_session(
        options=Options(workdir="/w", model="m", max_turns=3, extra=("--a",), sandbox_mode="read-only"),
        workdir="/w",
        model="m",
        title="Übung \0 🙂",
        tags=("a", "b"),
        metadata={"k": "v"},
        conversation="agent-1",
        parent="ses_x",
    )
    apply(connection, PutSession(session))
    assert get_session(connection, session.id, "me") == session


def test_a_session_that_is_put_again_is_replaced_with_its_tags(connection):
    apply(connection, PutSession(a_session(tags=("old",))), PutSession(a_session(tags=("new",), title="t")))
    assert get_session(connection, a_session().id, "me").title == "t"
    assert (found(connection, tag="old"), found(connection, tag="new")) == ([], [a_session().id])


def test_title_and_tags_can_be_changed_each_alone(connection):
    session = a_session(tags=("a",), title="one")
    apply(connection, PutSession(session), EditSession(session.id, title="two"))
    assert found(connection, tag="a") == [session.id]
    apply(connection, EditSession(session.id, tags=("b", "b")))
    stored = get_session(connection, session.id, "me")
    assert (stored.title, stored.tags, stored.updated) == ("two", ("b", "b"), session.updated)
    assert (found(connection, tag="a"), found(connection, tag="b")) == ([], [session.id])


def test_the_agents_own_id_is_kept_and_forgotten(connection):
    apply(connection, PutSession(a_session()), SetConversation(a_session().id, "agent-2"))
    assert get_session(connection, a_session().id, "me").conversation == "agent-2"
    apply(connection, SetConversation(a_session().id, None))
    assert get_session(connection, a_session().id, "me").conversation is None


@pytest.mark.parametrize(
    "change",
    [
        EditSession("ses_none", title="t"),
        SetConversation("ses_none", "c"),
        DeleteSession("ses_none"),
        AddTurn(a_turn(a_session())),
        FinishTurn("ses_none", "run_1", NOW),
        ForkSession(a_session(parent="ses_none")),
    ],
)
def test_a_change_of_what_is_not_there_is_refused(connection, change):
    with pytest.raises(Refusal) as refused:
        apply(connection, change)
    assert refused.value.code == Code.NOT_FOUND


def test_a_unique_prefix_of_four_characters_is_enough(connection):
    one, other = a_session(id="abcd1111"), a_session(id="abce2222")
    apply(connection, PutSession(one), PutSession(other))
    assert get_session(connection, "abcd", "me") == one
    assert get_session(connection, "abcd1111", "me") == one
    assert get_session(connection, "abc", "me") is None
    assert get_session(connection, "abcx", "me") is None
    assert get_session(connection, "abcd1111x", "me") is None


def test_a_prefix_of_several_ids_is_ambiguous_but_a_whole_id_is_not(connection):
    apply(connection, *(PutSession(a_session(id=name)) for name in ("abcd", "abcd1", "abcd2")))
    assert get_session(connection, "abcd", "me").id == "abcd"
    apply(connection, DeleteSession("abcd"))
    assert get_session(connection, "abcd", "me") == Ambiguous("abcd")


@pytest.mark.parametrize("prefix", ["____", "%%%%", "ab_d", "ab%", "abcd%", "ABCD", "\0\0\0\0"])
def test_a_prefix_is_text_not_a_pattern(connection, prefix):
    apply(connection, PutSession(a_session(id="abcd1111")))
    assert get_session(connection, prefix, "me") is None


def test_the_session_of_another_owner_is_not_there(connection):
    apply(connection, PutSession(a_session(id="abcd1111", owner="you")), PutSession(a_session(id="abcd2222")))
    assert get_session(connection, "abcd1111", "me") is None
    assert get_session(connection, "abcd", "me").id == "abcd2222"
    assert found(connection) == ["abcd2222"]


def test_turns_come_out_in_order_with_how_they_ended(connection):
    session, usage = a_session(), Usage(1, 2, 3, 4, 0.5)
    apply(
        connection,
        PutSession(session),
        *a_finished_turn(session, 1, "one", "1", usage=usage),
        *a_finished_turn(session, 2, "two", "2", code="timeout", message="too long"),
        AddTurn(a_turn(session, 3, prompt="three")),
    )
    turns = turns_of(connection, session.id)
    assert [(turn.number, turn.prompt, turn.output, turn.code, turn.message) for turn in turns] == [
        (1, "one", "1", None, ""),
        (2, "two", "2", "timeout", "too long"),
        (3, "three", "", None, ""),
    ]
    assert (turns[0].usage, turns[0].ended, turns[2].ended) == (usage, NOW + 1, None)
    assert turns_of(connection, session.id, after=1, most=1) == turns[1:2]


def test_a_sessions_status_use_and_count_follow_its_turns(connection):
    session = a_session(updated=NOW, tags=("a",))

    def shown():
        stored = get_session(connection, session.id, "me")
        assert found(connection, status=stored.status, tag="a") == [session.id]
        return stored.status, stored.turns, stored.updated

    apply(connection, PutSession(session), AddTurn(a_turn(session, 1, started=NOW + 5)))
    assert shown() == ("running", 1, NOW + 5)
    apply(connection, FinishTurn(session.id, "run_1", NOW + 9))
    assert shown() == ("idle", 1, NOW + 9)
    apply(connection, AddTurn(a_turn(session, 2)), FinishTurn(session.id, "run_1", NOW + 10, code="timeout"))
    assert shown() == ("error", 2, NOW + 10)


def test_a_turn_must_be_the_next_one(connection):
    session = a_session()
    apply(connection, PutSession(session), AddTurn(a_turn(session, 1)))
    for number in (1, 3, -1, 2**20):
        with pytest.raises(Refusal):
            apply(connection, AddTurn(a_turn(session, number, prompt="another")))


def test_turns_that_are_sent_again_are_stored_once(connection):
    session = a_session()
    changes = (AddTurn(a_turn(session, 1)), FinishTurn(session.id, "run_1", NOW, output="first"))
    apply(
        connection,
        PutSession(session),
        *changes,
        *changes,
        FinishTurn(session.id, "run_1", NOW, output="second"),
    )
    assert [turn.output for turn in turns_of(connection, session.id)] == ["first"]


def test_a_fork_has_the_finished_turns_and_goes_its_own_way(connection):
    parent = a_session(1)
    child = a_session(2, parent=parent.id)
    apply(
        connection,
        PutSession(parent),
        *a_finished_turn(parent, 1, "one", "1"),
        *a_finished_turn(parent, 2, "two", "2"),
        AddTurn(a_turn(parent, 3)),
        ForkSession(child),
        *a_finished_turn(child, 3, "mine", "3"),
        DeleteSession(parent.id),
    )
    assert [turn.output for turn in turns_of(connection, child.id)] == ["1", "2", "3"]
    assert found(connection, q="two") == [child.id]
    assert get_session(connection, child.id, "me").turns == 3


def test_deleting_a_session_leaves_nothing_of_it(connection):
    session, other = a_session(1, tags=("a",)), a_session(2)
    run, keep = a_run(1, session=session.id), a_run(2, session=other.id)
    apply(
        connection,
        PutSession(session),
        PutSession(other),
        *a_finished_turn(session, 1, "secret", "word"),
        *a_finished_turn(other, 1, "other", "secret"),
        AddTurn(a_turn(session, 2)),
        BeginRun(run),
        BeginRun(keep),
        some_events(run, 1, 5),
        some_events(keep, 1, 5),
        DeleteSession(session.id),
    )
    assert get_session(connection, session.id, "me") is None
    assert turns_of(connection, session.id) == ()
    assert get_run(connection, run.id, "me") is None
    assert events_after(connection, run.id, 0, 10) == []
    assert found(connection, tag="a") == []
    assert found(connection, q="secret") == [other.id]
    assert len(events_after(connection, keep.id, 0, 10)) == 5
    connection.execute("INSERT INTO turn_words (turn_words) VALUES ('integrity-check')")
    counts = [
        connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]  # noqa: S608 - of these
        for table in ("sessions", "session_tags", "turns", "runs", "events")
    ]
    assert counts == [1, 0, 1, 1, 1]
