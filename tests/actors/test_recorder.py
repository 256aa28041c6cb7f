"""The record of a run of several turns: a branch for each of them, in one log."""

import msgspec
import pytest
import trio
import trio.testing

from actors.calls import Calls
from actors.errors import Code, Refusal, within
from actors.messages import Complete, Failed, Message, Permission, Start
from actors.recorder import Identity, Recorder, RunLimits


@pytest.fixture
async def recorder():
    return Recorder(
        Identity("run_1", "", "parallel"), RunLimits(), Calls("run_1", 1.0, lambda: None, lambda: None)
    )


def told(recorder):
    return [(entry.seq, entry.type, entry.task, entry.session_id) for entry in recorder.log.after(0, 100)]


async def test_branches_write_to_one_log_each_under_its_task_and_session(recorder):
    one, two = recorder.branch(0, "a", "ses_a"), recorder.branch(1, "b", "ses_b")
    one.record([Start("m", "/")])
    two.record([Start("m", "/")])
    one.record([Message("x"), Message("y"), Complete("end_turn")])
    assert told(recorder) == [
        (1, "start", 0, "ses_a"),
        (2, "start", 1, "ses_b"),
        (3, "message", 0, "ses_a"),
        (4, "message", 0, "ses_a"),
        (5, "complete", 0, "ses_a"),
    ]
    assert one.outcome.output == "xy"
    assert two.text == ""
    assert recorder.begun


async def test_a_branchs_end_is_not_the_runs_and_what_comes_after_it_is_dropped(recorder):
    one = recorder.branch(0, "a", "ses_a")
    one.record([Failed(Code.CRASHED, "gone")])
    one.record([Message("late")])
    assert (recorder.outcome, recorder.log.ended, recorder.log.last) == (None, False, 1)
    recorder.record([Complete("end_turn")])
    recorder.branch(1, "b", "ses_b").record([Message("late")])
    assert (recorder.log.ended, recorder.log.last) == (True, 2)


@pytest.mark.parametrize("end", [Complete("end_turn"), Failed(Code.TIMEOUT, "late")])
async def test_the_runs_last_event_carries_the_whole_result_however_it_ends(recorder, end):
    recorder.summary = lambda: msgspec.Raw(b'{"tasks":1}')
    recorder.branch(0, "a", "ses_a").record([Complete("end_turn")])
    recorder.record([end])
    entries = recorder.log.after(0, 10)
    assert entries[0].content.result is msgspec.UNSET
    assert bytes(entries[1].content.result) == b'{"tasks":1}'


async def test_two_agents_that_call_their_questions_alike_are_told_apart(recorder, nursery, autojump_clock):
    one, two = recorder.branch(0, "a", "ses_a"), recorder.branch(1, "b", "ses_b")
    leaves, asked = {}, []

    async def ask(branch):
        permission = Permission("p_1", "shell", {}, ("allow", "deny"))
        leaves[branch.task] = await branch.ask_caller(permission, asked.append)

    nursery.start_soon(ask, one)
    nursery.start_soon(ask, two)
    await trio.testing.wait_all_tasks_blocked()
    assert sorted(permission.id for permission in asked) == ["0.p_1", "1.p_1"]
    recorder.answer("1.p_1", "allow")
    recorder.answer("0.p_1", "deny")
    await trio.testing.wait_all_tasks_blocked()
    assert leaves == {0: "deny", 1: "allow"}
    with pytest.raises(Refusal):
        recorder.answer("0.p_1", "allow")


@pytest.mark.parametrize(
    ("refusal", "message", "param"),
    [
        (
            Refusal(Code.FORBIDDEN, "workdir is no", param="workdir"),
            "tasks[3].workdir is no",
            "tasks[3].workdir",
        ),
        (Refusal(Code.FORBIDDEN, "no such", param="model"), "tasks[3].model: no such", "tasks[3].model"),
        (Refusal(Code.FORBIDDEN, "no"), "tasks[3]: no", "tasks[3]"),
    ],
)
def test_a_refusal_of_a_part_names_its_place(refusal, message, param):
    with pytest.raises(Refusal) as caught, within("tasks[3]"):
        raise refusal
    assert (caught.value.message, caught.value.param, caught.value.code) == (message, param, Code.FORBIDDEN)
