from contextlib import asynccontextmanager

import pytest
import trio

from actors.actor import Actor
from actors.calls import Calls
from actors.errors import ActorDied, Code, Refusal
from actors.messages import Complete, Failed, Message, Permission, Prompt, Start
from actors.recorder import Identity, Recorder, RunLimits
from clinvoker.flows import take_turn
from tests.actors.support import running, settle

LIMITS = RunLimits(first_event=10.0, idle=3.0, permission=60.0)
ASKED = Permission("p1", "Bash", {}, ("allow", "deny"))


class Session(Actor):
    """Plays a script: seconds to wait, and events to send."""

    def __init__(self, *script):
        super().__init__()
        self.script = script
        self.turn = None
        self.left = False

    async def admit(self, message):
        self.turn = message
        if self.script and isinstance(self.script[0], Refusal):
            raise self.script[0]

    async def produce(self, _message, emit):
        try:
            for step in self.script:
                if isinstance(step, float):
                    await trio.sleep(step)
                elif isinstance(step, Exception):
                    raise step
                else:
                    await emit(step)
        finally:
            self.left = True


@asynccontextmanager
async def playing(*script):
    session = Session(*script)
    async with running(session) as one:
        session.address = one.ref
        yield session


@pytest.fixture
async def recorder():
    calls = Calls("run_1", 1.0, lambda: None, lambda: None)
    return Recorder(Identity("run_1", "ses_1", "echo"), LIMITS, calls)


def recorded(recorder):
    return [entry.content for entry in recorder.log.after(0, 100)]


async def take(recorder, session, mode="default", **how):
    await take_turn(recorder, session.address, Prompt("hello"), mode, **how)


async def test_a_turn_is_recorded_event_by_event(recorder, autojump_clock):
    async with playing([Start("m", "/")], [Message("a"), Message("b")], [Complete("end_turn")]) as session:
        await take(recorder, session)
    assert [type(event) for event in recorded(recorder)] == [Start, Message, Message, Complete]
    assert session.turn.prompt == Prompt("hello")


async def test_what_the_session_refuses_is_raised(recorder, autojump_clock):
    async with playing(Refusal(Code.SESSION_BUSY, "busy")) as session:
        with pytest.raises(Refusal) as caught:
            await take(recorder, session)
    assert caught.value.code is Code.SESSION_BUSY


async def test_a_session_that_dies_is_never_a_silent_end(recorder, autojump_clock):
    async with playing([Message("a")], ValueError("bug")) as session:
        with pytest.raises(ActorDied):
            await take(recorder, session)


# Patience.


async def test_an_agent_that_never_says_anything_is_given_up(recorder, autojump_clock):
    async with playing(1000.0) as session:
        with pytest.raises(Refusal, match="nothing for 10 s") as caught:
            await take(recorder, session)
        await settle()
        assert session.left, "and its turn is cancelled"
    assert caught.value.code is Code.TIMEOUT
    assert trio.current_time() == pytest.approx(10)


async def test_until_the_first_word_the_patience_is_that_for_the_first_event(recorder, autojump_clock):
    async with playing(9.0, [Start("m", "/")], 9.0, [Message("a")], [Complete("end_turn")]) as session:
        await take(recorder, session)
    assert recorder.outcome is not None


async def test_after_it_the_patience_is_that_between_events(recorder, autojump_clock):
    async with playing([Message("a")], 2.0, [Message("b")], 1000.0) as session:
        with pytest.raises(Refusal, match="nothing for 3 s"):
            await take(recorder, session)
    assert trio.current_time() == pytest.approx(5)


async def test_an_agent_that_waits_for_the_callers_leave_is_not_idle(recorder, autojump_clock):
    script = [Message("a")], 1.0, [ASKED], 30.0, [Complete("end_turn")]
    async with playing(*script) as session, trio.open_nursery() as nursery:
        nursery.start_soon(take, recorder, session, "always")
        await settle()
        # What it announces is the script's own event: a driver puts it among those of the turn.
        nursery.start_soon(session.turn.approve, ASKED, lambda _event: None)
    assert isinstance(recorder.outcome, Complete)


# Permissions.


@pytest.mark.parametrize(
    ("mode", "options", "leave"),
    [
        ("auto", ("allow", "deny"), "allow"),
        ("auto", ("deny",), "deny"),
        ("none", ("allow", "deny"), "deny"),
        ("default", ("allow", "deny"), "deny"),
    ],
)
async def test_nothing_is_approved_by_silence(mode, options, leave, recorder, autojump_clock):
    announced = []
    async with playing([Failed(Code.REFUSED, "no")]) as session:
        await take(recorder, session, mode)
        assert await session.turn.approve(Permission("p1", "Bash", {}, options), announced.append) == leave
    assert announced == [], "the caller is not asked"


async def test_in_the_mode_always_the_caller_is_asked(recorder, autojump_clock):
    announced, given = [], []

    async def ask(approve):
        given.append(await approve(ASKED, announced.append))

    async with playing([Complete("end_turn")]) as session, trio.open_nursery() as nursery:
        await take(recorder, session, "always")
        nursery.start_soon(ask, session.turn.approve)
        await settle()
        assert announced == [ASKED]
        recorder.answer("p1", "allow")
    assert given == ["allow"]
