"""The runner over real processes: what a link is to it, and how a process's life and its turns hang together."""

import itertools
import os
import signal
import sys
from contextlib import closing
from pathlib import Path

import pytest
import trio

from actors.change import Change
from actors.driver import LinkClosed, ProtocolBroken
from actors.errors import ActorDied, Code, Refusal
from actors.marker import Instance, find
from actors.messages import Complete, Failed, Message, Options, Permission, Prompt, Start
from actors.outbox import LIMIT
from actors.process import Launch
from actors.runner import Forget, Ready, Runner, RunnerLimits, Turn
from actors.telemetry import LinesUnparsed, ProcessEnded, ProcessSpent, ProcessStarted
from tests.actors.support import Records, leaves, running

AGENT = Path(__file__).parent / "children" / "agent.py"
LIMITS = RunnerLimits(start=5.0, interrupt=0.3, kill=1.0)
serial = itertools.count(70_000)


class ScriptedLink:
    """The protocol of `children/agent.py`."""

    def __init__(self, send, driver):
        self.send = send
        self.driver = driver
        self.unparsed = 0
        self.out = {}
        self._seen = []
        self._closed = False
        self._changed = Change()

    def feed(self, line):
        match line.decode().split(" "):
            case ["word", conversation, text]:
                self.out[conversation].put(Message(text))
            case ["done", conversation]:
                self.out[conversation].put(Complete("end_turn"))
                self._note(line)
            case ["ready"] | ["ask" | "opened" | "idle" | "closed", _]:
                self._note(line)
            case ["lingering"]:
                self.driver.lingers = True
            case ["what"] if self.driver.fragile:
                raise ValueError("a bug in the driver")
            case _:
                self.unparsed += 1

    def _note(self, line):
        self._seen.append(line.decode())
        self._changed.announce()

    def closed(self):
        self._closed = True
        self._changed.announce()

    async def expect(self, *lines):
        await self._changed.wait_until(lambda: self._closed or any(self._has(line) for line in lines))
        for line in lines:
            for seen in self._seen:
                if seen.startswith(line):
                    self._seen.remove(seen)
                    return seen
        raise LinkClosed

    def _has(self, line):
        return any(seen.startswith(line) for seen in self._seen)

    async def handshake(self):
        await self.expect("ready")
        if self.driver.handshake_error:
            raise self.driver.handshake_error

    async def open(self, options, resume):
        self.driver.opened.append((options, resume))
        if self.driver.open_error:
            raise self.driver.open_error
        if self.driver.opens_none:
            await self.expect("never")
        await self.send(b"open\n")
        return (await self.expect("opened")).split()[1]

    async def serve(self):
        pass

    async def turn(self, conversation, prompt, out, ask, call):
        self.call = call
        self.out[conversation] = out
        out.put(Start("model", "/"))
        if prompt.text == "break":
            raise ProtocolBroken("it made no sense")
        if prompt.text == "nothing":
            return
        await self.send(f"turn {conversation} {prompt.text}\n".encode())
        if (await self.expect(f"done {conversation}", f"ask {conversation}")).startswith("ask"):
            out.put(Message(await ask(Permission("p1", "Bash", {}, ("allow", "deny")))))
            await self.send(f"go {conversation}\n".encode())
            await self.expect(f"done {conversation}")
        if self.driver.lingers:
            await trio.sleep_forever()

    async def interrupt(self, conversation):
        self.driver.interrupted.append(conversation)
        await self.send(f"interrupt {conversation}\n".encode())
        await self.expect(f"idle {conversation}")

    async def close(self, conversation):
        await self.send(f"close {conversation}\n".encode())
        await self.expect(f"closed {conversation}")
        self.driver.closed.append(conversation)


class ScriptedDriver:
    """Launches `children/agent.py`."""

    name = "scripted"
    program = "agent"

    def __init__(self, *args, shared=True):
        self.args = args
        self.shared = shared
        self.opened, self.interrupted, self.closed = [], [], []
        self.handshake_error = self.open_error = self.launch_error = None
        self.lingers = self.fragile = self.opens_none = False
        self.argv = (sys.executable, "-SI", str(AGENT))
        self.cwd = "/"

    def launch(self, options, scratch, resume):
        del options, scratch, resume
        if self.launch_error:
            raise self.launch_error
        return Launch((*self.argv, *self.args), env={"PATH": "/usr/bin:/bin"}, cwd=self.cwd)

    def link(self, send, launch):
        del launch
        return ScriptedLink(send, self)


class World:
    def __init__(self, driver=None, *, limits=LIMITS):
        self.driver = driver or ScriptedDriver()
        self.marker = Instance.current().marker(next(serial))
        self.records = Records()
        self.runner = Runner(self.driver, Options(), self.marker, limits, self.records)

    async def __aenter__(self):
        self._running = running(self.runner, self.records)
        self.one = await self._running.__aenter__()
        self.ref = self.one.ref
        return self

    async def __aexit__(self, *exc_info):
        await self._running.__aexit__(None, None, None)
        assert self.processes() == [], "nothing is left behind"

    def processes(self):
        return find(lambda found: found.marker == self.marker)

    async def ready(self):
        with closing(await self.ref.stream(Ready())) as ready:
            await ready.next()

    def begin(self, text, session="s1", approve=None, options=Options()):  # noqa: B008 - frozen
        return self.ref.stream(Turn(session, Prompt(text), options, approve or deny))

    async def turn(self, text, session="s1", **how):
        events = []
        with closing(await self.begin(text, session, **how)) as batches, trio.fail_after(10):
            async for batch in batches:
                events.extend(batch.events)
        return events


async def first(ref, message):
    with closing(await ref.stream(message)) as replies:
        return await replies.next()


async def deny(permission, announce):
    del permission, announce
    return "deny"


async def come_true(condition):
    with trio.fail_after(5):
        while not condition():
            await trio.sleep(0.01)


# Start.


async def test_it_is_ready_after_the_handshake_and_gone_when_it_is_stopped():
    async with World() as world:
        await world.ready()
        assert len(world.processes()) == 1
        await world.one.child.stop()
        assert world.processes() == []
    assert len(world.records.of(ProcessStarted)) == 1
    [ended] = world.records.of(ProcessEnded)
    assert ended.reason == "stopped"


@pytest.mark.parametrize(
    ("how", "code", "message"),
    [
        ({"args": ("exit",)}, Code.BACKEND_UNAVAILABLE, "ended with exit code 2: no config"),
        ({"args": ("hang",)}, Code.BACKEND_UNAVAILABLE, "not ready within 0.5 s"),
        ({"argv": ("/no/such/agent",)}, Code.NOT_INSTALLED, "agent is not installed"),
        ({"cwd": "/no/such/directory"}, Code.INVALID_REQUEST, ""),
        ({"launch_error": Refusal(Code.UNSUPPORTED, "cannot")}, Code.UNSUPPORTED, "cannot"),
        ({"handshake_error": Refusal(Code.NOT_LOGGED_IN, "log in")}, Code.NOT_LOGGED_IN, "log in"),
        ({"handshake_error": ProtocolBroken("old version")}, Code.PROTOCOL, "old version"),
    ],
)
async def test_a_start_that_fails_is_refused_with_the_reason_and_ends_the_runner(how, code, message):
    driver = ScriptedDriver()
    for name, value in how.items():
        setattr(driver, name, value)
    async with World(driver, limits=RunnerLimits(start=0.5, kill=1.0)) as world:
        for message_to_it in (Ready(), Turn("s1", Prompt("say a"), Options(), deny)):
            with pytest.raises((Refusal, ActorDied)) as caught:
                await first(world.ref, message_to_it)
            if isinstance(message_to_it, Ready):
                assert caught.value.code is code
                assert message in str(caught.value)
        with trio.fail_after(3):
            await world.one.ended.wait()
        assert world.one.error is None
    [ended] = world.records.of(ProcessEnded)
    assert ended.reason == "failed_to_start"


async def test_a_crash_in_the_driver_at_the_start_ends_the_runner_and_who_waits_is_told():
    driver = ScriptedDriver()
    driver.handshake_error = ValueError("a bug in the driver")
    async with World(driver) as world:
        with pytest.raises(ActorDied):
            await world.ready()
        await world.one.ended.wait()
        assert [type(leaf) for leaf in leaves(world.one.error)] == [ValueError]


async def test_stopped_while_it_starts_it_leaves_no_process():
    for pause in (0.0, 0.005, 0.02, 0.05):
        async with World():
            await trio.sleep(pause)


# Turns.


async def test_a_turn_gives_the_agents_events_and_the_conversations_id():
    async with World() as world:
        with closing(await world.begin("say hello world")) as batches:
            got = [batch async for batch in batches]
        assert {batch.conversation for batch in got} == {"c1"}
        events = [event for batch in got for event in batch.events]
        assert events == [Start("model", "/"), Message("hello"), Message("world"), Complete("end_turn")]


async def test_the_conversation_is_opened_once_and_has_a_directory_of_its_own():
    async with World() as world:
        await world.turn("say a", "s1")
        await world.turn("say b", "s1")
        await world.turn("say c", "s2")
        workdirs = [options.workdir for options, _ in world.driver.opened]
        assert len(set(workdirs)) == 2
        assert [await trio.Path(workdir).is_dir() for workdir in workdirs] == [True, True]
        await world.turn("say d", "s3", options=Options(workdir="/"))
        assert world.driver.opened[-1][0].workdir == "/"
    assert not any([await trio.Path(workdir).exists() for workdir in workdirs])


async def test_turns_of_a_shared_process_run_beside_each_other():
    async with World() as world:
        with closing(await world.begin("silent", "s1")) as first:
            await first.next()
            assert (await world.turn("say a", "s2"))[-1] == Complete("end_turn")


async def test_a_forgotten_session_is_closed_and_opened_anew():
    async with World() as world:
        await world.turn("say a")
        await world.ref.tell(Forget("s1"))
        await world.ref.tell(Forget("nobody"))
        await come_true(lambda: world.driver.closed == ["c1"])
        await world.turn("say b")
        assert len(world.driver.opened) == 2


@pytest.mark.parametrize(
    ("text", "code"),
    [("break", Code.PROTOCOL), ("nothing", Code.PROTOCOL), ("exit", Code.CRASHED), ("kill", Code.CRASHED)],
)
async def test_whatever_goes_wrong_in_a_turn_is_its_one_last_event(text, code):
    async with World() as world:
        events = await world.turn(text)
        failed = [event for event in events if isinstance(event, Failed | Complete)]
        assert failed == [events[-1]]
        assert failed[0].code is code
        if code is Code.CRASHED:
            assert events[-2] == Message("last"), "what it said before is kept"
            how = "exit code 3" if text == "exit" else "signal 9 (SIGKILL)"
            assert how in failed[0].message
            assert "boom" in failed[0].message
            assert "verysecret" not in failed[0].message
            await world.one.ended.wait()
            assert world.records.of(ProcessEnded)[0].reason == "died"


async def test_when_the_process_dies_every_turn_in_hand_is_told_even_to_a_reader_who_is_slow():
    async with World() as world:
        with (
            closing(await world.begin("silent", "s1")) as first,
            closing(await world.begin("silent", "s2")) as second,
        ):
            for batches in (first, second):
                await batches.next()
            await world.turn("kill", "s3")
            for batches in (first, second):
                [failed] = (await batches.next()).events
                assert failed.code is Code.CRASHED


async def test_a_crash_in_the_driver_is_never_a_silent_end():
    driver = ScriptedDriver()
    driver.fragile = True
    async with World(driver) as world:
        with pytest.raises(ActorDied):
            await world.turn("nonsense")


async def test_lines_that_mean_nothing_are_counted_and_harm_nobody():
    async with World() as world:
        assert (await world.turn("nonsense"))[-1] == Complete("end_turn")
    assert sum(record.count for record in world.records.of(LinesUnparsed)) == 2


async def test_a_permission_stands_after_what_the_agent_said_before_it():
    async def approve(permission, announce):
        announce(permission)
        return "allow"

    async with World() as world:
        events = await world.turn("ask", approve=approve)
    assert [type(event) for event in events] == [Start, Message, Permission, Message, Complete]
    assert events[3] == Message("allow")


# Cutting a turn short.


async def test_when_the_reader_leaves_the_agent_is_interrupted_and_can_go_on():
    async with World() as world:
        with closing(await world.begin("silent")) as batches:
            await batches.next()
        await batches.wait_ended()
        assert world.driver.interrupted == ["c1"]
        assert (await world.turn("say a"))[-1] == Complete("end_turn")


async def test_a_turn_that_ended_well_is_not_interrupted():
    async with World() as world:
        await world.turn("say a")
        assert world.driver.interrupted == []


async def test_an_agent_that_goes_on_after_its_last_event_is_interrupted_after_a_while():
    async with World() as world:
        await world.turn("linger")
        assert world.driver.interrupted == ["c1"]


async def test_an_agent_that_does_not_obey_is_killed_and_its_other_turns_are_told():
    async with World(ScriptedDriver("deaf")) as world:
        with closing(await world.begin("silent", "s1")) as other:
            await other.next()
            with closing(await world.begin("silent", "s2")) as batches:
                await batches.next()
            [failed] = (await other.next()).events
            assert failed.code is Code.CRASHED
        await world.one.ended.wait()


@pytest.mark.parametrize("callers", [1, 3])
async def test_a_stopped_agent_is_killed_though_every_caller_leaves_before_his_turn_begins(callers):
    async with World() as world:
        await world.ready()
        os.kill(world.processes()[0].pid, signal.SIGSTOP)
        for number in range(callers):
            batches = await world.begin("say a", f"s{number}")
            await come_true(lambda: len(world.driver.opened) > number)  # noqa: B023 - called at once
            batches.close()
        with trio.fail_after(LIMITS.interrupt + 0.5):
            await world.one.ended.wait()
        assert world.records.of(ProcessSpent)


async def test_a_caller_who_leaves_while_his_conversation_is_opened_harms_nobody():
    async with World() as world:
        await world.ready()
        batches = await world.begin("say a")
        await come_true(lambda: world.driver.opened)
        batches.close()
        await batches.wait_ended()
        assert (await world.turn("say b"))[-1] == Complete("end_turn")
        assert len(world.driver.opened) == 1, "it is open now, so it need not be again"
        assert world.records.of(ProcessSpent) == []


async def test_an_agent_that_opens_nothing_more_is_ended_after_the_turns_that_still_hear_of_it():
    async with World() as world:
        await world.turn("say a", "s1")
        with closing(await world.begin("silent", "s2")) as other:
            await other.next()
            world.driver.opens_none = True
            deaf = await world.begin("say a", "s3")
            assert (await world.turn("say b", "s1"))[-1] == Complete("end_turn")
            deaf.close()
            await deaf.wait_ended()
            assert world.records.of(ProcessSpent)
            assert (await world.turn("say c", "s1"))[-1] == Complete("end_turn")
        with trio.fail_after(3):
            await world.one.ended.wait()


async def test_a_reader_who_leaves_a_flood_does_not_keep_the_agent_from_being_heard():
    async with World() as world:
        with closing(await world.begin(f"flood {5 * LIMIT}")) as batches:
            await batches.next()
            await trio.sleep(0.3)
        await batches.wait_ended()
        assert len(world.processes()) == 1, "it was heard to obey, so it was not killed"
        assert (await world.turn("say a"))[-1] == Complete("end_turn")


async def test_a_reader_who_is_slow_gets_everything():
    async with World() as world:
        count = 0
        with closing(await world.begin(f"flood {3 * LIMIT} end")) as batches:
            async for batch in batches:
                await trio.sleep(0.01)
                count += len(batch.events)
        assert count == 3 * LIMIT + 2


async def test_a_tool_that_a_turn_left_running_is_gone_after_it():
    async with World() as world:
        events = await world.turn("stray")
        assert isinstance(events[-1], Complete)
        await come_true(lambda: len(world.processes()) == 1)


@pytest.mark.parametrize("shared", [True, False])
async def test_a_conversation_that_cannot_be_opened_spoils_a_process_that_can_hold_no_other(shared):
    driver = ScriptedDriver(shared=shared)
    async with World(driver) as world:
        await world.ready()
        driver.open_error = Refusal(Code.NOT_FOUND, "no such conversation")
        with pytest.raises(Refusal, match="no such conversation"):
            await world.turn("say a")
        driver.open_error = None
        if shared:
            await world.turn("say a")
        else:
            with trio.fail_after(3):
                await world.one.ended.wait()
