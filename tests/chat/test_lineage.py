"""Which session has had exactly this conversation so far."""

from contextlib import asynccontextmanager

import pytest

from clinvoker.chat.conversation import Said
from clinvoker.chat.lineage import Line, Lineage, scope_of
from clinvoker.store import DeleteSession, PutSession
from tests.store.support import a_finished_turn, a_session, open_store

LINE = Line(scope_of("me", "claude"))
NAMED = Line(LINE.scope, scope_of("chat 7"))
LATEST = Line(LINE.scope, scope_of("chat 7"), latest=scope_of("latest", "chat 7"))
ONE, TWO = a_session(1), a_session(2)


def said(*texts):
    """What was said in turns, the user first."""
    return tuple(Said("assistant" if index % 2 else "user", text) for index, text in enumerate(texts))


@asynccontextmanager
async def filed(directory, line, *texts):
    """A file with session one under this conversation."""
    async with open_store(directory) as store:
        await store.write(PutSession(ONE), PutSession(TWO), *a_finished_turn(ONE))
        lineage = Lineage(store)
        lineage.store = store
        await lineage.file(ONE.id, line.keys(said(*texts)))
        yield lineage


async def found(lineage, line, *texts):
    async with lineage.going_on(line.wanted(said(*texts))) as session:
        return session


async def test_a_session_is_found_by_all_that_was_said(tmp_path):
    async with filed(tmp_path, LINE, "a", "b") as lineage:
        assert await found(lineage, LINE, "a", "b") == ONE.id


async def test_it_is_found_after_the_daemon_started_anew(tmp_path):
    async with filed(tmp_path, LINE, "a", "b"):
        pass
    async with open_store(tmp_path) as store:
        assert await found(Lineage(store), LINE, "a", "b") == ONE.id


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
async def test_another_conversation_is_none_of_its(tmp_path, line, texts):
    async with filed(tmp_path, LINE, "a", "b") as lineage:
        assert await found(lineage, line, *texts) is None


@pytest.mark.parametrize("echoed", ["b", "b\n", "b  \n\n", " b"])
async def test_blanks_around_an_answer_that_a_client_strips_or_adds_do_not_matter(tmp_path, echoed):
    async with filed(tmp_path, LINE, "a", "b\n") as lineage:
        assert await found(lineage, LINE, "a", echoed) == ONE.id


async def test_one_request_at_a_time_goes_on_so_that_a_branch_goes_to_another(tmp_path):
    async with filed(tmp_path, NAMED, "a", "b") as lineage:
        async with lineage.going_on(NAMED.wanted(said("a", "b"))) as session:
            assert session == ONE.id
            assert await found(lineage, NAMED, "a", "b") is None
            assert await found(lineage, LINE, "a", "b") is None
        assert await found(lineage, NAMED, "a", "b") == ONE.id


async def test_a_turn_that_was_taken_makes_the_filing_void_until_the_session_is_filed_anew(tmp_path):
    async with filed(tmp_path, LINE, "a", "b") as lineage:
        await lineage.store.write(*a_finished_turn(ONE, 2))
        assert await found(lineage, LINE, "a", "b") is None
        await lineage.file(ONE.id, LINE.keys(said("a", "b", "c", "d")))
        assert await found(lineage, LINE, "a", "b") is None
        assert await found(lineage, LINE, "a", "b", "c", "d") == ONE.id


async def test_a_named_conversation_goes_on_whatever_the_client_made_of_the_answers(tmp_path):
    async with filed(tmp_path, NAMED, "a", "b") as lineage:
        assert await found(lineage, NAMED, "a", "shortened") == ONE.id


async def test_a_named_conversation_whose_user_said_something_else_is_another(tmp_path):
    async with filed(tmp_path, NAMED, "a", "b") as lineage:
        assert await found(lineage, NAMED, "edited", "b") is None


@pytest.mark.parametrize(("line", "session"), [(NAMED, None), (LATEST, ONE.id)])
async def test_a_name_with_a_first_message_is_a_new_conversation_unless_the_name_is_all_that_is_sent(
    tmp_path, line, session
):
    async with filed(tmp_path, line, "a", "b") as lineage:
        assert await found(lineage, line) == session


async def test_a_name_does_not_make_up_for_a_history_that_is_another(tmp_path):
    async with filed(tmp_path, LATEST, "a", "b") as lineage:
        assert await found(lineage, LATEST, "x", "b") is None
        assert await found(lineage, LATEST, "a", "abridged") == ONE.id


async def test_the_name_counts_before_what_was_said(tmp_path):
    async with filed(tmp_path, LINE, "a", "b") as lineage:
        await lineage.file(TWO.id, NAMED.keys(said("a", "other")))
        assert await found(lineage, NAMED, "a", "b") == TWO.id


async def test_the_later_of_two_sessions_with_the_same_conversation_is_the_one(tmp_path):
    async with filed(tmp_path, LINE, "a", "b") as lineage:
        await lineage.file(TWO.id, LINE.keys(said("a", "b")))
        assert await found(lineage, LINE, "a", "b") == TWO.id


async def test_a_filing_ends_with_its_session(tmp_path):
    async with filed(tmp_path, NAMED, "a", "b") as lineage:
        await lineage.store.write(DeleteSession(ONE.id))
        assert await found(lineage, NAMED, "a", "b") is None
        assert await lineage.store.filed(()) is None


async def test_a_session_that_is_not_stored_is_not_filed(tmp_path):
    async with filed(tmp_path, LINE, "a", "b") as lineage:
        await lineage.file("ses_nobody", LINE.keys(said("c", "d")))
        assert await found(lineage, LINE, "c", "d") is None
