"""F40 to F47: what goes wrong inside: crashes, deadlocks, floods, and cancellation at every step."""

import json
import os
import sys
import time
from collections import Counter
from contextlib import asynccontextmanager, closing, suppress

import h11
import pytest
import trio

from actors import actor as acting
from actors.actor import Actor, Ping
from actors.errors import ActorDied, Code, Refusal
from actors.lease import PoolLimits
from actors.mailbox import CAPACITY, Ask, Stream, Tell
from actors.marker import Instance, find
from actors.messages import Complete, Options, Prompt
from actors.pool import Pool
from actors.runner import RunnerLimits
from actors.session import Begin, Description, Session
from actors.supervisor import ChildSpec, DynamicSupervisor, RestartsExhausted, Spawn, Supervisor
from actors.telemetry import ChildEnded, StreamFailed
from clinvoker import config
from clinvoker.backends.acp import AcpDriver
from clinvoker.daemon import run_daemon
from clinvoker.store import Database
from clinvoker.watchdog import ActorStuck, watch_actors, watch_loop
from tests.faults.conftest import SERVER
from tests.support.client import Client
from tests.support.daemon import SCRIPTED, Daemon, become_true, scripted

SABOTAGED = [sys.executable, "-m", "tests.faults.sabotaged"]


# F40: a crash at every message.


class PoisonedError(Exception):
    pass


class Faults:
    """Lets the n-th message that any actor handles crash its actor."""

    def __init__(self):
        self.at = 0
        self.count = 0
        self.hit = ""
        self._handle = acting.Actor._handle

    def arm(self, at):
        self.at, self.count, self.hit = at, 0, ""

    async def handle(self, actor, envelope, observe):
        self.count += not isinstance(envelope.message, Ping)
        if self.at and self.count == self.at:
            self.at, self.hit = 0, f"{type(actor).__name__}.{type(envelope.message).__name__}"
            raise PoisonedError(self.hit)
        await self._handle(actor, envelope, observe)


@pytest.fixture
def faults(monkeypatch):
    faults = Faults()
    monkeypatch.setattr(Actor, "_handle", _through(faults))
    return faults


def _through(faults):
    async def handle(actor, envelope, observe):
        await faults.handle(actor, envelope, observe)

    return handle


@asynccontextmanager
async def in_process(tmp_path, **server):
    """The daemon in this very process."""
    settings = config.load(config.Options(config=_written(tmp_path, server)), {})
    environ = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "TMPDIR": str(tmp_path)}
    database = Database(tmp_path)
    database.prepare()
    stop = trio.Event()
    async with trio.open_nursery() as nursery:

        async def run(task_status):
            await run_daemon(settings, environ, database, stop=stop, task_status=task_status)

        up = await nursery.start(run)
        yield Client(int(up.urls[0].rpartition(":")[2]))
        stop.set()


def _written(tmp_path, server):
    file = tmp_path / "config.toml"
    command = json.dumps(SCRIPTED)
    limits = "\n".join(f"{key} = {value}" for key, value in {"port": 0, **SERVER, **server}.items())
    off = "".join(f"[backends.{name}]\nenabled = false\n" for name in ("claude", "codex", "gemini", "echo"))
    file.write_text(
        f'default_backend = "scripted"\nstate_dir = "{tmp_path}/state"\n[server]\n{limits}\n{off}'
        f'[backends.scripted]\nprotocol = "acp"\ncommand = {command}\nspares = 0\nmax_idle = 0\n'
        f'env = {{ SCRIPT_NOTES = "{tmp_path}" }}\n'
    )
    return str(file)


@pytest.mark.parametrize("streamed", [False, True], ids=["json", "stream"])
async def test_f40_a_crash_at_any_message_is_an_error_of_its_own_request_alone(tmp_path, faults, streamed):
    hits, at = [], 1
    while at == 1 or hits[-1]:
        # A daemon for each: the crashes of one would add up to its end.
        async with in_process(tmp_path) as client:
            faults.arm(at)
            with trio.fail_after(5):
                await _crash(client, streamed=streamed)
            hits.append(faults.hit)
            faults.arm(0)
            with trio.fail_after(1):
                assert (await client.get("/health")).status == 200
            await _recovers(client)
        assert find(lambda found: found.marker.startswith(Instance.current().prefix)) == []
        at += 1
    assert len(hits) > 8, hits


async def _crash(client, *, streamed):
    prompt = "one two{{wait:0.01}} three"
    if streamed:
        events = await client.read(prompt)
        if events.refusal is None:
            assert events.text == "one two three" or events.code, events
            assert [event["type"] in {"complete", "error"} for event in events.events].count(True) == 1
            return
        answer = events.refusal
    else:
        answer = await client.ask(prompt)
    assert answer.status in {200, 500, 502, 503}, answer
    assert answer.code in {"", "internal_error", "backend_unavailable", "backend_crashed"}, answer
    assert answer.code or answer.json["output"] == "one two three", answer
    assert b"Poisoned" not in answer.body


async def _recovers(client):
    began = trio.current_time()
    while (answer := await client.ask("again")).status != 200:
        assert trio.current_time() - began < 3, answer
        await trio.sleep(0.05)
    assert answer.json["output"] == "again"


# F41 to F43: what cannot be cured ends the daemon, loudly.


class Boom(Tell, frozen=True):
    pass


class Fragile(Actor):
    """Crashes on every `Boom`."""

    async def receive(self, message):
        if isinstance(message, Boom):
            raise PoisonedError("boom")
        return await super().receive(message)


async def test_f41_three_crashes_in_five_seconds_are_mended_and_the_fourth_is_not(autojump_clock):
    records = []
    supervisor = Supervisor([ChildSpec("fragile", Fragile)], records.append)
    ref = supervisor.refs["fragile"]

    async def crash(_):
        for number in range(4):
            await ref.tell(Boom())
            await trio.sleep(1)
            assert number == 3 or ref.alive

    with pytest.raises(RestartsExhausted, match="fragile ended 4 times"):
        await _supervised(supervisor, crash)
    ends = [record.restarted for record in records if isinstance(record, ChildEnded)]
    assert ends == [True, True, True, False]
    with pytest.raises(ActorDied):
        await ref.ask(Ping())


async def test_f41_crashes_that_are_far_apart_are_mended_for_ever(autojump_clock):
    supervisor = Supervisor([ChildSpec("fragile", Fragile)], lambda _: None)
    ref = supervisor.refs["fragile"]
    async with trio.open_nursery() as nursery:
        await nursery.start(supervisor.run)
        for _ in range(20):
            await ref.tell(Boom())
            await trio.sleep(2)
            await ref.ask(Ping())
        nursery.cancel_scope.cancel()


@pytest.mark.daemon
async def test_f41_a_tree_that_gives_up_ends_the_daemon_with_code_70_and_a_message(tmp_path):
    argv = [*SABOTAGED, "poisoned", "serve"]
    with Daemon(tmp_path / "d", backends={"scripted": scripted(spares=1)}, argv=argv, **SERVER) as daemon:
        await become_true(daemon.agents, 3)
        began = trio.current_time()
        while daemon.process.poll() is None and trio.current_time() - began < 8:
            with suppress(OSError, trio.BrokenResourceError, h11.RemoteProtocolError):
                answer = await daemon.client.ask("hello")
                assert answer.status in {500, 503}, answer
        assert await daemon.wait_ended(5) == 70
        assert "limiter ended 4 times within 5 s" in daemon.logged("giving up")[0]["exception"]
        assert len([line for line in daemon.logged("actor crashed") if line["actor"] == "limiter"]) == 4
        await become_true(daemon.nothing_left, 3)


class Stuck(Actor):
    """Waits for ever on any message of its own."""

    async def receive(self, message):  # noqa: ARG002 - whatever it is
        await trio.sleep_forever()


async def test_f42_an_actor_that_is_stuck_is_found(autojump_clock):
    supervisor = Supervisor([ChildSpec("well", Actor), ChildSpec("stuck", Stuck)], lambda _: None)
    refs = supervisor.refs

    async def get_stuck(nursery):
        nursery.start_soon(_watch, list(refs.values()))
        await trio.sleep(10)
        await refs["stuck"].tell(Boom())
        await trio.sleep(10)

    with pytest.raises(ActorStuck, match="stuck has not answered for 3 s"):
        await _supervised(supervisor, get_stuck)


async def _watch(refs):
    await watch_actors(refs, every=1, patience=3)


async def _supervised(supervisor, scenario):
    """Play a scenario beside a tree; what either raises comes out as it is."""
    async with _unwrapped() as nursery:
        await nursery.start(supervisor.run)
        await scenario(nursery)


async def test_f42_an_actor_that_is_stuck_is_found_though_its_mailbox_is_full(autojump_clock):
    supervisor = Supervisor([ChildSpec("stuck", Stuck)], lambda _: None)
    ref = supervisor.refs["stuck"]

    async def flood(nursery):
        for _ in range(CAPACITY + 1):
            await ref.tell(Boom())
        nursery.start_soon(_watch, [ref])
        await trio.sleep(10)

    with pytest.raises(ActorStuck):
        await _supervised(supervisor, flood)


async def test_f42_an_actor_between_two_incarnations_is_not_stuck(autojump_clock):
    supervisor = Supervisor([ChildSpec("fragile", Fragile)], lambda _: None)
    ref = supervisor.refs["fragile"]
    async with trio.open_nursery() as nursery:
        await nursery.start(supervisor.run)
        nursery.start_soon(lambda: watch_actors([ref], every=0.05, patience=1))
        for _ in range(5):
            await ref.tell(Boom())
            await trio.sleep(3)
        nursery.cancel_scope.cancel()


@pytest.mark.daemon
async def test_f42_a_stuck_actor_ends_the_daemon_with_code_70_and_the_stacks(tmp_path):
    argv = [*SABOTAGED, "stuck", "serve"]
    with Daemon(tmp_path / "d", backends={"scripted": scripted(spares=1)}, argv=argv, **SERVER) as daemon:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_ignore_errors, daemon.client.ask, "hello")
            assert await daemon.wait_ended(10) == 70
        assert daemon.logged("actor stuck")[0]["actor"] == "limiter"
        assert "most recent call first" in daemon.log
        await become_true(daemon.nothing_left, 3)


async def _ignore_errors(ask, prompt):
    with suppress(Exception):
        await ask(prompt)


async def test_f43_code_that_holds_the_loop_is_logged_with_its_stack(capfd):
    from clinvoker.logs import configure  # noqa: PLC0415

    writer = configure("info", sys.stderr)
    with watch_loop(blocked=0.1):
        await trio.sleep(0.15)  # waiting is no holding
        hold_the_loop()
        await trio.lowlevel.checkpoint()
    writer.close()
    (line,) = [json.loads(line) for line in capfd.readouterr().err.splitlines()]
    assert line["event"] == "event loop blocked"
    assert any("hold_the_loop" in call for call in line["stack"])


def hold_the_loop():
    time.sleep(0.4)


@pytest.mark.daemon
async def test_f43_a_held_loop_is_logged_once_and_the_daemon_goes_on(tmp_path):
    argv = [*SABOTAGED, "blocked", "serve"]
    with Daemon(tmp_path / "d", backends={"scripted": scripted()}, argv=argv, **SERVER) as daemon:
        await become_true(lambda: daemon.logged("event loop blocked"), 5)
        assert (await daemon.client.ask("hello")).json["output"] == "hello"
        (line,) = daemon.logged("event loop blocked")
        assert "hold_the_loop" in line["stack"][0]
        assert daemon.stop() == 0


@pytest.mark.daemon
async def test_f44_a_full_thread_pool_stops_neither_health_nor_starting_agents(tmp_path):
    argv = [*SABOTAGED, "exhausted", "serve"]
    with Daemon(tmp_path / "d", backends={"scripted": scripted()}, argv=argv, **SERVER) as daemon:
        for _ in range(3):
            with trio.fail_after(1):
                assert (await daemon.client.get("/health")).status == 200
        with trio.fail_after(2):
            assert (await daemon.client.ask("hello")).json["output"] == "hello"


# F45, F46: messages that nobody can handle, and too many of them.


class Unknown(Ask[int], frozen=True):
    pass


class Watch(Stream[int], frozen=True):
    pass


async def test_f45_a_message_nobody_knows_is_answered_with_the_crash_and_not_handled_again(autojump_clock):
    records = []
    supervisor = Supervisor([ChildSpec("plain", Actor)], records.append)
    ref = supervisor.refs["plain"]
    async with trio.open_nursery() as nursery:
        await nursery.start(supervisor.run)
        with pytest.raises(ActorDied):
            await ref.ask(Unknown())
        await trio.sleep(1)
        with pytest.raises(ActorDied):
            await ref.stream(Watch())
        await trio.sleep(10)
        await ref.ask(Ping())
        nursery.cancel_scope.cancel()
    crashes = [record.error for record in records if isinstance(record, ChildEnded)]
    assert len(crashes) == 2


async def test_f46_a_full_mailbox_refuses_asks_and_streams_at_once(autojump_clock):
    supervisor = Supervisor([ChildSpec("stuck", Stuck, shutdown=0.1)], lambda _: None)
    ref = supervisor.refs["stuck"]
    async with trio.open_nursery() as nursery:
        await nursery.start(supervisor.run)
        for _ in range(CAPACITY + 1):
            await ref.tell(Boom())
        for call in (ref.ask(Unknown()), ref.stream(Watch())):
            with pytest.raises(Refusal) as refused:
                await call
            assert refused.value.code is Code.BUSY
            assert refused.value.retry_after
        with trio.move_on_after(1) as patience:
            await ref.tell(Boom())
        assert patience.cancelled_caught
        nursery.cancel_scope.cancel()


async def test_f46_at_the_end_everybody_who_waits_in_a_mailbox_is_answered(autojump_clock):
    supervisor = Supervisor([ChildSpec("stuck", Stuck, shutdown=0.1)], lambda _: None)
    ref = supervisor.refs["stuck"]
    answers = Counter()

    async def ask():
        with pytest.raises((ActorDied, Refusal)):
            await ref.ask(Unknown())
        answers["died"] += 1

    async with trio.open_nursery() as nursery:
        async with trio.open_nursery() as tree:
            await tree.start(supervisor.run)
            for _ in range(50):
                nursery.start_soon(ask)
            await trio.sleep(1)
            tree.cancel_scope.cancel()
        await trio.sleep(1)
        assert answers["died"] == 50


# F47: cancellation at every step.


class CancelAt(trio.abc.Instrument):
    """Cancels a scope when the n-th task step from now on is about to be taken."""

    def __init__(self, scope, at):
        self._scope, self._left = scope, at

    def before_task_step(self, task):  # noqa: ARG002 - any task's step counts
        self._left -= 1
        if self._left == 0:
            self._scope.cancel()

    @property
    def was_reached(self):
        return self._left <= 0


@pytest.mark.slow
@pytest.mark.parametrize("offset", range(3))
async def test_f47_a_turn_cancelled_at_any_step_leaves_no_process_and_no_lock(tmp_path, offset):
    problems, at, reached = [], 1 + offset, True
    driver = _driver(tmp_path)
    limits = PoolLimits(spares=0, max_idle=0, runner=RunnerLimits(start=5, interrupt=0.5, kill=0.5))
    default = Options()
    serial = iter(range(10_000))

    def observe(record):
        if isinstance(record, StreamFailed) or (isinstance(record, ChildEnded) and record.error is not None):
            problems.append((at, record))

    supervisor = Supervisor(
        [
            ChildSpec("pool", lambda: Pool(driver, limits, default, lambda: _marker(serial), observe)),
            ChildSpec("sessions", lambda: DynamicSupervisor("sessions", observe, 100)),
        ],
        observe,
    )
    refs = supervisor.refs
    async with trio.open_nursery() as nursery:
        await nursery.start(supervisor.run)
        while reached:
            with trio.CancelScope() as scope:
                instrument = CancelAt(scope, at)
                trio.lowlevel.add_instrument(instrument)
                try:
                    await _take_turn(refs, f"session-{at}", default)
                finally:
                    trio.lowlevel.remove_instrument(instrument)
            reached = instrument.was_reached
            # One at a time may hold the process: were a lock or a lease left behind, this would not end.
            with trio.fail_after(5):
                await _take_turn(refs, f"after-{at}", default)
            at += 3
        await become_true(
            lambda: not find(lambda found: found.marker.startswith(Instance.current().prefix)), 5
        )
        nursery.cancel_scope.cancel()
    assert problems == []


async def _take_turn(refs, name, options):
    session = await refs["sessions"].ask(
        Spawn(name, Session(Description(name, "scripted", options), refs["pool"]))
    )

    async def deny(*_):
        return "deny"

    with closing(await session.stream(Begin(Prompt("one {{pace:3,0.002}} two"), deny))) as batches:
        async for batch in batches:
            last = batch[-1]
    assert isinstance(last, Complete), last


def _driver(tmp_path):
    settings = config.BackendSettings(
        protocol="acp", command=tuple(SCRIPTED), env={"SCRIPT_NOTES": str(tmp_path)}
    )
    return AcpDriver("scripted", settings, {"PATH": os.environ["PATH"], "TMPDIR": str(tmp_path)})


def _marker(serial):
    return Instance.current().marker(f"f47-{next(serial)}")


@asynccontextmanager
async def _unwrapped():
    """A nursery whose one exception comes out as it is."""
    try:
        async with trio.open_nursery() as nursery:
            yield nursery
    except ExceptionGroup as group:
        error = group
        while isinstance(error, ExceptionGroup):
            (error,) = error.exceptions
        raise error from None
