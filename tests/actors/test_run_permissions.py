"""What a run asks of its caller."""

from contextlib import closing

import pytest
import trio

from actors.errors import Code, Refusal
from actors.messages import Complete, Permission, ToolResult
from actors.run import Answer, Cancel, Follow
from tests.actors.runs import a_run, contents
from tests.actors.support import running

ASKED = Permission("p1", "Bash", {"command": "ls"}, ("allow", "deny"))


class Asking:
    """Work that asks its caller for leave."""

    def __init__(self):
        self.leave = None

    async def __call__(self, recorder):
        self.leave = await recorder.ask_caller(ASKED, lambda event: recorder.record([event]))
        recorder.record([Complete("end_turn")])


async def test_a_permission_is_asked_and_answered(autojump_clock):
    asking = Asking()
    async with running(a_run(asking)) as one:
        with closing(await one.ref.stream(Follow())) as pages:
            [entry] = await pages.next()
            assert entry.content == ASKED
            await one.ref.ask(Answer("p1", "allow"))
            assert [type(entry.content) for page in [await pages.next()] for entry in page] == [Complete]
    assert asking.leave == "allow"


async def test_a_permission_that_nobody_answers_is_a_no_and_said_so(autojump_clock):
    asking = Asking()
    async with running(a_run(asking)) as one:
        events = await contents(one.ref)
        assert trio.current_time() == pytest.approx(5)
    assert asking.leave == "deny"
    assert isinstance(events[1], ToolResult)
    assert (events[1].id, events[1].is_error) == ("p1", True)
    assert "5 s" in events[1].output


@pytest.mark.parametrize(
    ("answer", "code"),
    [(Answer("p1", "allow_always"), Code.INVALID_REQUEST), (Answer("p2", "allow"), Code.NOT_FOUND)],
)
async def test_a_wrong_answer_is_refused_and_leaves_the_question_open(answer, code, autojump_clock):
    asking = Asking()
    async with running(a_run(asking)) as one:
        with closing(await one.ref.stream(Follow())) as pages:
            await pages.next()
            with pytest.raises(Refusal) as caught:
                await one.ref.ask(answer)
            assert caught.value.code is code
            await one.ref.ask(Answer("p1", "deny"))
            await pages.next()
            with pytest.raises(Refusal):
                await one.ref.ask(Answer("p1", "deny"))
    assert asking.leave == "deny"


async def test_a_question_of_a_cancelled_run_is_no_longer_open(autojump_clock):
    async with running(a_run(Asking())) as one:
        with closing(await one.ref.stream(Follow())) as pages:
            await pages.next()
            await one.ref.ask(Cancel())
            await pages.next()
            with pytest.raises(Refusal):
                await one.ref.ask(Answer("p1", "allow"))
