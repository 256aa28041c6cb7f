"""Which session has had exactly this conversation so far."""

import pytest

from clinvoker.chat.conversation import Said
from clinvoker.chat.lineage import Line, Lineage, scope_of

LINE = Line(scope_of("me", "claude"))
NAMED = Line(LINE.scope, scope_of("chat 7"))
LATEST = Line(LINE.scope, scope_of("chat 7"), latest=True)


def said(*texts):
    """What was said in turns, the user first."""
    return tuple(Said("assistant" if index % 2 else "user", text) for index, text in enumerate(texts))


def filed(session, line, *texts):
    lineage = Lineage()
    lineage.file(session, line.keys(said(*texts)))
    return lineage


def test_a_session_is_found_by_all_that_was_said():
    assert filed("s", LINE, "a", "b").take(LINE.wanted(said("a", "b"))) == "s"


@pytest.mark.parametrize(
    ("line", "texts"),
    [
        (LINE, ("a",)),
        (LINE, ("a", "x")),
        (LINE, ("x", "b")),
        (LINE, ("a", "b", "c", "d")),
        (LINE, ()),
        (Line(scope_of("you", "claude")), ("a", "b")),
    ],
)
def test_another_conversation_is_none_of_its(line, texts):
    assert filed("s", LINE, "a", "b").take(line.wanted(said(*texts))) is None


@pytest.mark.parametrize("echoed", ["b", "b\n", "b  \n\n", " b"])
def test_blanks_around_an_answer_that_a_client_strips_or_adds_do_not_matter(echoed):
    assert filed("s", LINE, "a", "b\n").take(LINE.wanted(said("a", echoed))) == "s"


def test_a_session_is_taken_once_so_that_a_branch_goes_to_another():
    lineage = filed("s", NAMED, "a", "b")
    assert lineage.take(NAMED.wanted(said("a", "b"))) == "s"
    assert lineage.take(NAMED.wanted(said("a", "b"))) is None
    assert lineage.take(LINE.wanted(said("a", "b"))) is None
    assert len(lineage) == 0


def test_a_named_conversation_goes_on_whatever_the_client_made_of_the_answers():
    assert filed("s", NAMED, "a", "b").take(NAMED.wanted(said("a", "shortened"))) == "s"


def test_a_named_conversation_whose_user_said_something_else_is_another():
    assert filed("s", NAMED, "a", "b").take(NAMED.wanted(said("edited", "b"))) is None


def test_a_name_with_a_first_message_is_a_new_conversation_unless_the_name_is_all_that_is_sent():
    assert filed("s", NAMED, "a", "b").take(NAMED.wanted(())) is None
    assert filed("s", LATEST, "a", "b").take(LATEST.wanted(())) == "s"


def test_the_name_counts_before_what_was_said():
    lineage = filed("by hash", LINE, "a", "b")
    lineage.file("by name", NAMED.keys(said("a", "other")))
    assert lineage.take(NAMED.wanted(said("a", "b"))) == "by name"


def test_the_later_of_two_sessions_with_the_same_conversation_is_the_one():
    lineage = filed("first", LINE, "a", "b")
    lineage.file("second", LINE.keys(said("a", "b")))
    assert lineage.take(LINE.wanted(said("a", "b"))) == "second"


def test_the_file_is_bounded_in_number():
    lineage = Lineage(most=2)
    for name in ("one", "two", "three"):
        lineage.file(name, LINE.keys(said(name, "b")))
    assert len(lineage) == 2
    assert lineage.take(LINE.wanted(said("one", "b"))) is None
    assert lineage.take(LINE.wanted(said("three", "b"))) == "three"


def test_the_file_is_bounded_in_age():
    now = 0.0
    lineage = Lineage(kept=10, clock=lambda: now)
    lineage.file("old", LINE.keys(said("a", "b")))
    now = 10.5
    assert lineage.take(LINE.wanted(said("a", "b"))) is None
    assert len(lineage) == 0
