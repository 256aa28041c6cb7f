import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clinvoker.store import Database, PutSession, SessionFilter
from clinvoker.store import search as search_module
from clinvoker.store.listing import list_sessions
from clinvoker.store.turns import turns_of
from tests.store.support import a_finished_turn, a_session, apply, fresh

TURNS = [
    ("How do I parse JSON?", "Use the json module."),
    ("Écrire un résumé", "naïve café"),
    ("你好世界", "東京タワー is a tower"),
    ('say "quoted phrase" twice', "foo.bar_baz(qux) -- AND OR NOT NEAR"),
]


@pytest.fixture(scope="module")
def connection(tmp_path_factory):
    with fresh(tmp_path_factory.mktemp("search")) as connection:
        for number, (prompt, output) in enumerate(TURNS, 1):
            session = a_session(number)
            apply(connection, PutSession(session), *a_finished_turn(session, 1, prompt, output))
        yield connection


def hits(connection, q):
    page = list_sessions(connection, SessionFilter(owner="me", q=q))
    assert page.total == len(page.sessions)
    return sorted(int(session.id[4:], 16) for session in page.sessions)


@pytest.mark.parametrize(
    ("q", "numbers"),
    [
        ("json", [1]),
        ("JSON parse", [1]),
        ("parse module", [1]),
        ("json café", []),
        ("resume", [2]),
        ("CAFE", [2]),
        ("世界", [3]),
        ("好世", [3]),
        ("界好", []),
        ("東京", [3]),
        ("タワー tower", [3]),
        ('"quoted phrase"', [4]),
        ('"phrase quoted"', []),
        ("phrase quoted", [4]),
        ("foo.bar_baz", [4]),
        ("AND", [4]),
        ("NOT json", []),
        ("prompt:json", []),
        ("js*", []),
        ("--", []),
        ('""', []),
        ('"', []),
        ("", [1, 2, 3, 4]),
        ("   ", [1, 2, 3, 4]),
    ],
)
def test_words_are_found_and_no_character_is_an_operator(connection, q, numbers):
    assert hits(connection, q) == numbers


@settings(max_examples=200, deadline=None)
@given(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
    | st.text('"*():^-+ aNOTRD{}\0', max_size=30)
)
def test_whatever_people_type_is_answered(connection, q):
    hits(connection, q)


def test_a_damaged_index_is_made_anew_at_the_next_start(tmp_path):
    with fresh(tmp_path) as connection:
        for number, (prompt, output) in enumerate(TURNS, 1):
            session = a_session(number)
            apply(connection, PutSession(session), *a_finished_turn(session, 1, prompt, output))
        connection.execute("UPDATE turn_words_data SET block = randomblob(length(block)) WHERE id > 10")
    assert Database(tmp_path).prepare() == ""
    with fresh(tmp_path) as connection:
        assert (hits(connection, "json"), hits(connection, "世界")) == ([1], [3])


def test_a_damaged_index_costs_no_turn(tmp_path):
    with fresh(tmp_path) as connection:
        session = a_session()
        apply(connection, PutSession(session), *a_finished_turn(session, 1))
        connection.execute("UPDATE turn_words_data SET block = x'00' WHERE id < 20")
        apply(connection, *a_finished_turn(session, 2))
        assert len(turns_of(connection, session.id)) == 2


def test_of_a_very_long_answer_the_beginning_is_found_and_it_can_be_deleted(tmp_path, monkeypatch):
    monkeypatch.setattr(search_module, "_MOST_CHARACTERS", 100)
    with fresh(tmp_path) as connection:
        session = a_session()
        apply(
            connection, PutSession(session), *a_finished_turn(session, 1, "p", "first " + "x " * 100 + "last")
        )
        assert (hits(connection, "first"), hits(connection, "last")) == ([1], [])
