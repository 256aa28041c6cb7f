"""What the actors keep, on a real store: the phases of a run's journal, faults in each, and a session's memory."""

import pytest
from msgspec.structs import replace

from actors.errors import Code, Refusal
from actors.messages import Complete, Entry, Failed, Message, Start, Usage
from clinvoker.keeping import RunJournal, SessionMemory
from clinvoker.store import DeleteSession, PutSession
from tests.store.support import MOMENT, a_run, a_session, open_store

RUN = "run_1"


def entries(*events, first=1):
    return [
        Entry(event.TYPE, "claude", event, MOMENT, RUN, seq, a_session().id)
        for seq, event in enumerate(events, first)
    ]


def a_journal(store, **options):
    return RunJournal(store, a_run(session=a_session().id), "what?", **options)


@pytest.fixture
async def store(tmp_path, nursery):
    async with open_store(tmp_path) as store:
        await store.write(PutSession(a_session()))
        yield store


async def stored(store):
    """The run, its events by type, its turns, and its session."""
    run = await store.run(RUN, "me")
    kinds = [each.type for each in await a_journal(store).after(0, 100)] if run else []
    return run, kinds, await store.turns(a_session().id), await store.session(a_session().id, "me")


def broken(store):
    """The writing connection writes no more; the next one does."""
    store.actor._writer._connection.execute("PRAGMA query_only = ON")


async def test_a_run_is_kept_with_its_turn(store):
    journal = a_journal(store)
    await journal.append(entries(Start("m", "/w"), Message("a")))
    run, kinds, [turn], session = await stored(store)
    assert (run.status, run.session, kinds) == ("running", session.id, ["start", "message"])
    assert (turn.prompt, turn.ended, session.status, session.turns) == ("what?", None, "running", 1)
    last = Complete("end_turn", Usage(1, 2), output="ab")
    await journal.append(entries(Message("b"), last, first=3))
    run, kinds, [turn], session = await stored(store)
    assert (run.status, kinds) == ("complete", ["start", "message", "message", "complete"])
    assert (turn.output, turn.code, turn.usage) == ("ab", None, Usage(1, 2))
    assert session.status == "idle"
    assert await journal.after(2, 1) == entries(Message("b"), first=3)


async def test_a_run_that_fails_keeps_what_it_said(store):
    journal = a_journal(store)
    await journal.append(entries(Start("m", "/w"), Message("half"), Failed(Code.CRASHED, "gone")))
    run, _, [turn], session = await stored(store)
    assert (run.status, turn.output, turn.code, turn.message) == ("error", "half", "backend_crashed", "gone")
    assert session.status == "error"


async def test_what_was_refused_is_not_kept(store):
    await a_journal(store).append(entries(Failed(Code.SESSION_BUSY, "busy")))
    run, _, turns, session = await stored(store)
    assert (run, turns, session.status) == (None, (), "idle")


async def test_what_was_refused_is_kept_where_the_run_was_promised_but_it_is_no_turn(store):
    journal = a_journal(store, promised=True)
    await journal.begin()
    assert (await stored(store))[0].status == "running"
    await journal.append(entries(Failed(Code.SESSION_BUSY, "busy")))
    run, kinds, turns, _ = await stored(store)
    assert (run.status, run.session, kinds, turns) == ("error", None, ["error"], ())


@pytest.mark.parametrize("begun_first", [True, False])
async def test_beginning_may_come_after_the_first_events_too(store, begun_first):
    journal = a_journal(store, promised=True)
    if begun_first:
        await journal.begin()
    await journal.append(entries(Start("m", "/w"), Complete("end_turn")))
    await journal.begin()
    run, kinds, [turn], session = await stored(store)
    assert (run.status, run.session, kinds) == ("complete", session.id, ["start", "complete"])
    assert turn.ended is not None


PHASES = [
    entries(Start("m", "/w"), Message("a")),
    entries(Message("b"), first=3),
    entries(Message("c"), Complete("end_turn", output="abc"), first=4),
]


@pytest.mark.parametrize("phase", [0, 1, 2])
async def test_a_fault_in_any_phase_is_told_and_the_run_can_be_ended_once_it_is_gone(store, phase):
    journal = a_journal(store)
    for part in PHASES[:phase]:
        await journal.append(part)
    before = await stored(store)
    broken(store)
    with pytest.raises(Refusal) as refused:
        await journal.append(PHASES[phase])
    assert refused.value.code is Code.STORAGE
    assert await stored(store) == before, "all of it or nothing"
    failed = Failed(Code.STORAGE, "the disk is full")
    for _ in range(2):
        await journal.close(failed)
    run, kinds, turns, session = await stored(store)
    if phase == 0:
        assert (run, turns) == (None, ())
        return
    assert (run.status, kinds[-1], kinds.count("error")) == ("error", "error", 1)
    assert kinds[:-1] == ["start", "message", "message"][: phase + 1]
    assert (turns[0].code, turns[0].output, session.status) == ("storage_error", "ab"[:phase], "error")


async def test_closing_fails_as_long_as_the_fault_lasts(store):
    journal = a_journal(store)
    await journal.append(PHASES[0])
    broken(store)
    with pytest.raises(Refusal):
        await journal.close(Failed(Code.STORAGE, "full"))
    await journal.close(Failed(Code.STORAGE, "full"))
    assert (await stored(store))[0].status == "error"


async def test_closing_a_run_that_is_not_kept_never_fails(store):
    broken(store)
    await a_journal(store).close(Failed(Code.STORAGE, "full"))


async def test_a_run_that_has_ended_is_not_ended_again(store):
    journal = a_journal(store)
    for part in PHASES:
        await journal.append(part)
    await journal.close(Failed(Code.STORAGE, "full"))
    run, kinds, _, _ = await stored(store)
    assert (run.status, kinds[-1]) == ("complete", "complete")


async def test_when_its_session_is_deleted_a_run_is_kept_no_further(store):
    journal = a_journal(store)
    await journal.append(PHASES[0])
    await store.write(DeleteSession(a_session().id))
    with pytest.raises(Refusal) as refused:
        await journal.append(PHASES[1])
    assert refused.value.code is Code.NOT_FOUND
    await journal.close(Failed(Code.CANCELLED, "deleted"))
    assert await store.run(RUN, "me") is None


async def test_a_run_begun_in_a_deleted_session_leaves_nothing(store):
    await store.write(DeleteSession(a_session().id))
    with pytest.raises(Refusal) as refused:
        await a_journal(store).append(PHASES[0])
    assert refused.value.code is Code.NOT_FOUND
    assert await store.run(RUN, "me") is None


# A session's memory.


async def test_a_new_session_is_stored_when_its_agent_has_a_conversation(store):
    fresh = a_session(7)
    memory = SessionMemory(store, fresh, stored=False)
    assert (await memory.conversation(), await memory.history()) == (None, [])
    assert await store.session(fresh.id, "me") is None
    await memory.set_conversation("conv")
    assert await memory.conversation() == "conv"
    assert (await store.session(fresh.id, "me")).conversation == "conv"


async def test_a_new_session_that_could_not_be_stored_is_stored_the_next_time(store):
    memory = SessionMemory(store, a_session(7), stored=False)
    broken(store)
    with pytest.raises(Refusal):
        await memory.set_conversation("conv")
    assert await memory.conversation() is None
    await memory.set_conversation("conv")
    assert await memory.conversation() == "conv"


async def test_what_is_remembered_is_what_is_stored_now(store):
    memory = SessionMemory(store, replace(a_session(), conversation="stale"), stored=True)
    assert await memory.conversation() is None
    await SessionMemory(store, a_session(), stored=True).set_conversation("new")
    assert await memory.conversation() == "new"


async def test_of_a_deleted_session_nothing_is_remembered(store):
    memory = SessionMemory(store, a_session(), stored=True)
    await store.write(DeleteSession(a_session().id))
    for attempt in (memory.conversation(), memory.set_conversation("c")):
        with pytest.raises(Refusal) as refused:
            await attempt
        assert refused.value.code is Code.NOT_FOUND


async def test_the_history_is_that_of_the_turns_that_ended_well(store):
    good = entries(Start("m", "/w"), Message("a"), Complete("end_turn", output="a"))
    await a_journal(store).append(good)
    for run, last in [("run_2", Failed(Code.CRASHED, "gone")), ("run_3", None)]:
        parts = [Start("m", "/w"), Message("b"), *([last] if last else [])]
        journal = RunJournal(store, a_run(id=run, session=a_session().id), "and?")
        await journal.append([replace(entry, run_id=run) for entry in entries(*parts)])
    assert await SessionMemory(store, a_session(), stored=True).history() == [("what?", "a")]
