"""One live CLI process: its link, its conversations, its death.

The process lives as long as the actor does, and the actor as long as the process: whichever ends first takes the
other along. Turns run beside each other when the driver's process can hold several conversations; each is a stream,
so a reader that leaves cancels its turn, and the agent is interrupted through its own protocol.
"""

import os
import signal
import tempfile
from contextlib import suppress
from typing import Any

import msgspec
import trio
from msgspec import Struct

from actors.actor import Actor
from actors.asks import Approve, CallClient, tool_caller
from actors.driver import Driver, Link, LinkClosed, ProtocolBroken
from actors.errors import Code, Refusal
from actors.lines import utf8
from actors.mailbox import Ask, Emit, Stream, Tell
from actors.marker import find, now_ticks
from actors.messages import Event, Failed, Leave, Options, Permission, Prompt, as_failed
from actors.obituary import obituary, why_not_launched
from actors.outbox import Outbox
from actors.process import LaunchError, Process, ProcessGone, open_process, sweep_strays
from actors.scratch import make_directory, remove_directory, scratch_directory
from actors.telemetry import LinesUnparsed, Observer, ProcessEnded, ProcessSpent, ProcessStarted

SWEEP_PAUSE = 0.1
"""Seconds between two looks for what ended turns left running: a look reads all of /proc."""


class Batch(Struct, frozen=True):
    """Events of a turn as they came, and the agent's own id of the conversation they belong to."""

    conversation: str
    events: list[Event]


class Ready(Stream[None], frozen=True):
    """Emits once the process can take turns; refused with the reason if it never will."""


class Turn(Stream[Batch], frozen=True):
    """One turn of a session's conversation, which is opened, or resumed by the agent's own id, if it is not live here.

    The last batch ends with `Complete` or `Failed`. Raises `Refusal` before any batch if it cannot begin.
    """

    session: str
    prompt: Prompt
    options: Options
    approve: Approve
    resume: str | None = None
    client: CallClient | None = None
    """Whoever runs the client's tools; None if nobody does."""


class Forget(Tell, frozen=True):
    """A session will not come back: its conversation is closed."""

    session: str


class RunnerLimits(Struct, frozen=True):
    """Seconds that a process gets: to start, to end a turn that was cut short, to die."""

    start: float = 30.0
    interrupt: float = 2.0
    kill: float = 3.0


class Runner(Actor):
    """Owns one agent process. It never restarts: its pool starts another."""

    def __init__(
        self,
        driver: Driver,
        options: Options,
        marker: str,
        limits: RunnerLimits,
        observe: Observer,
        resume: str | None = None,
    ) -> None:
        super().__init__()
        self._driver = driver
        self._options = options
        self._resume = resume
        self._marker = marker
        self._limits = limits
        self._observe = observe
        self._ready = trio.Event()
        self._gone = trio.Event()
        self._unavailable: Refusal | None = None
        self._process: Process
        self._link: Link
        self._scratch: str
        self._conversations: dict[str, str] = {}
        self._workdirs: dict[str, str] = {}
        self._turns: dict[Outbox, int] = {}
        """The turns in hand, and when each began (clock ticks)."""
        self._heard = -float("inf")
        """When the agent said something last."""
        self._turn_ended = trio.Event()
        self._idle = trio.Event()
        self._idle.set()

    async def started(self) -> None:
        """Start the process; the handshake goes on beside the mailbox."""
        self.nursery.start_soon(self._live)

    async def receive(self, message: Tell | Ask[Any]) -> object:
        """Take `Forget`."""
        match message:
            case Forget(session=session):
                conversation = self._conversations.pop(session, None)
                if conversation is not None and not self._gone.is_set():
                    self.nursery.start_soon(self._close, session, conversation)
                return None
            case _:
                return await super().receive(message)

    async def admit(self, message: Stream[Any]) -> None:
        """Accept `Ready` and `Turn`."""
        if not isinstance(message, Ready | Turn):
            await super().admit(message)

    async def produce(self, message: Stream[Any], emit: Emit[Any]) -> None:
        """Do the work of `Ready` and `Turn`."""
        await self._ready.wait()
        if self._unavailable is not None:
            raise self._unavailable
        match message:
            case Turn():
                await self._turn(message, emit)
            case _:
                await emit(None)

    # The process.

    async def _live(self) -> None:
        """Hold the process from launch to death."""
        reason = "stopped"
        began = trio.current_time()
        try:
            async with scratch_directory(self._marker) as self._scratch:
                launch = self._driver.launch(self._options, self._scratch, self._resume)
                make_directory(launch.env.get("TMPDIR", self._scratch))
                async with (
                    open_process(launch, marker=self._marker, grace=self._limits.kill) as self._process,
                    trio.open_nursery() as nursery,
                ):
                    self._link = self._driver.link(self._send, launch)
                    nursery.start_soon(self._read)
                    nursery.start_soon(self._link.serve)
                    nursery.start_soon(self._sweep_after_turns)
                    self._unavailable = await self._shake_hands()
                    if self._unavailable is None:
                        self._observe(ProcessStarted(self._driver.name, trio.current_time() - began))
                        self._ready.set()
                        await self._gone.wait()
                        reason = "died"
                        # The turns in hand have yet to tell their readers how it ended.
                        with trio.move_on_after(self._limits.kill):
                            await self._idle.wait()
                    nursery.cancel_scope.cancel()
        except LaunchError as error:
            self._unavailable = why_not_launched(self._driver.program, error)
        except Refusal as refusal:
            self._unavailable = refusal
        finally:
            if self._unavailable is not None:
                reason = "failed_to_start"
            self._observe(ProcessEnded(self._driver.name, reason, str(self._unavailable or "")))
            self._ready.set()
            self.end()

    async def _shake_hands(self) -> Refusal | None:
        """Bring the process to where it takes turns, or say why it never will."""
        try:
            with trio.fail_after(self._limits.start):
                await self._link.handshake()
        except trio.TooSlowError:
            message = f"{self._driver.name} was not ready within {self._limits.start:g} s"
            return Refusal(Code.BACKEND_UNAVAILABLE, message)
        except (LinkClosed, ProcessGone):
            await self._wait_gone()
            return Refusal(Code.BACKEND_UNAVAILABLE, self._obituary())
        except ProtocolBroken as error:
            return Refusal(Code.PROTOCOL, f"{self._driver.name}: {error}")
        except Refusal as refusal:
            return refusal
        return None

    async def _read(self) -> None:
        """Feed the link with everything the agent says, pausing while a turn's reader is behind."""
        unparsed = 0
        async for lines in self._process.receive_lines():
            self._heard = trio.current_time()
            for line in lines:
                self._link.feed(utf8(line))
            for outbox in [outbox for outbox in self._turns if outbox.full]:
                await outbox.wait_room()
            lost = self._link.unparsed + self._process.oversize
            if lost != unparsed:
                self._observe(LinesUnparsed(self._driver.name, lost - unparsed))
                unparsed = lost
        self._observe(ProcessSpent(self._driver.name))
        self._link.closed()
        self._gone.set()

    async def _send(self, data: bytes) -> None:
        """Write to the process. One that takes nothing more serves nobody: it may end by itself, or is ended."""
        try:
            await self._process.send(data)
        finally:
            if not self._process.takes_input:
                self._observe(ProcessSpent(self._driver.name))
                self.nursery.start_soon(self._end_deaf)

    async def _end_deaf(self) -> None:
        await self._wait_gone()
        self._kill()

    def _kill(self) -> None:
        """Kill the process; its reader sees the end, and tells the turns."""
        if self._process.returncode is None:  # so the pid is still ours
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)

    async def _wait_gone(self) -> None:
        """Give a process that no longer talks the time to end, so that its end can be told."""
        with trio.move_on_after(1.0):
            await self._process.wait()

    def _obituary(self) -> str:
        return obituary(self._driver.name, self._process)

    # Turns.

    async def _turn(self, turn: Turn, emit: Emit[Batch]) -> None:
        outbox = Outbox()
        self._turns[outbox] = now_ticks()
        if self._idle.is_set():
            self._idle = trio.Event()
        conversation = None
        idle = False
        try:
            if self._gone.is_set():
                raise Refusal(Code.CRASHED, self._obituary())
            conversation = await self._conversation(turn)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._converse, conversation, turn, outbox)
                while events := await outbox.take():
                    await emit(Batch(conversation, events))
                # The reader has its last event; an agent that was cut short may still be winding down.
                nursery.cancel_scope.deadline = trio.current_time() + self._limits.interrupt
            idle = not nursery.cancel_scope.cancelled_caught
        finally:
            # A reader of the agent's output that waits for room here goes on, or it would never see the agent obey.
            outbox.close()
            with trio.CancelScope(shield=True):
                if conversation is not None and not idle:
                    await self._interrupt(conversation)
                elif conversation is None and not self._driver.shared:
                    self.end()  # neither fresh nor in a conversation: good for nothing more
                del self._turns[outbox]
                self._turn_ended.set()
                if not self._turns:
                    self._idle.set()

    async def _conversation(self, turn: Turn) -> str:
        """The session's conversation: the live one, else opened or resumed now."""
        known = self._conversations.get(turn.session)
        if known is not None:
            return known
        options = turn.options
        if not options.workdir:
            options = msgspec.structs.replace(options, workdir=self._make_workdir(turn.session))
        try:
            return await self._open(turn.session, options, turn.resume)
        except (LinkClosed, ProcessGone):
            await self._wait_gone()
            raise Refusal(Code.CRASHED, self._obituary()) from None
        except ProtocolBroken as error:
            raise Refusal(Code.PROTOCOL, f"{self._driver.name}: {error}") from None

    async def _open(self, session: str, options: Options, resume: str | None) -> str:
        """Have the agent open the session's conversation; one that does not answer takes no more turns.

        A shared agent has some time to answer even when the caller leaves, or it could hang unnoticed for ever: every
        caller might leave too soon. One that is not shared ends then anyway.
        """
        began = trio.current_time()
        patience = trio.CancelScope(shield=self._driver.shared, deadline=began + self._limits.start)
        conversation = failure = None

        async def watch_caller() -> None:
            try:
                await trio.sleep_forever()
            finally:
                patience.deadline = min(patience.deadline, trio.current_time() + self._limits.interrupt)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch_caller)
            with patience:
                try:
                    conversation = self._conversations[session] = await self._link.open(options, resume)
                except Exception as error:  # noqa: BLE001 - raised again below: the nursery would wrap it
                    failure = error
            # Here, for a caller who has left is not heard of any more when the nursery is left.
            if patience.cancelled_caught:
                self._give_up(began)
            nursery.cancel_scope.cancel()
        if failure is not None:
            raise failure
        if conversation is None:
            message = f"{self._driver.name} opened no conversation within {self._limits.start:g} s"
            raise Refusal(Code.BACKEND_UNAVAILABLE, message)
        return conversation

    def _give_up(self, asked: float) -> None:
        """End an agent that left a question of that time unanswered; the other turns first, if they still hear of it."""
        self._observe(ProcessSpent(self._driver.name))
        if len(self._turns) == 1 or self._heard < asked:
            self._kill()
        else:
            self.nursery.start_soon(self._end_idle)

    async def _end_idle(self) -> None:
        await self._idle.wait()
        self.end()

    def _make_workdir(self, session: str) -> str:
        """An empty directory for one conversation: the process's own, where it can hold no other."""
        if not self._driver.shared:
            return self._scratch
        self._workdirs[session] = tempfile.mkdtemp(prefix="work-", dir=self._scratch)
        return self._workdirs[session]

    async def _converse(self, conversation: str, turn: Turn, outbox: Outbox) -> None:
        """Run the turn in the driver; whatever goes wrong there becomes the turn's last event."""

        async def ask(permission: Permission) -> Leave:
            return await turn.approve(permission, outbox.put)

        try:
            call = tool_caller(turn.options, turn.client, outbox.put)
            await self._link.turn(conversation, turn.prompt, outbox, ask, call)
        except (LinkClosed, ProcessGone):
            await self._wait_gone()
            outbox.put(Failed(Code.CRASHED, self._obituary()))
        except ProtocolBroken as error:
            outbox.put(Failed(Code.PROTOCOL, f"{self._driver.name}: {error}"))
        except Refusal as refusal:
            outbox.put(as_failed(refusal))
        else:
            outbox.put(Failed(Code.PROTOCOL, f"{self._driver.name} ended the turn without a result"))

    async def _interrupt(self, conversation: str) -> None:
        """Cut the turn in hand short; an agent that does not obey is killed, and all its turns with it."""
        with trio.move_on_after(self._limits.interrupt) as patience:
            with suppress(LinkClosed, ProcessGone, ProtocolBroken, Refusal):
                await self._link.interrupt(conversation)
        if patience.cancelled_caught:
            self._kill()

    async def _close(self, session: str, conversation: str) -> None:
        """Have the agent forget a conversation, and remove the directory that was made for it."""
        with (
            trio.move_on_after(self._limits.interrupt),
            suppress(LinkClosed, ProcessGone, ProtocolBroken, Refusal),
        ):
            await self._link.close(conversation)
        if workdir := self._workdirs.pop(session, None):
            await remove_directory(workdir)

    async def _sweep_after_turns(self) -> None:
        """Kill the tools that ended turns left running: those older than every turn still in hand.

        Beside the turns, so that the next one need not wait; one look serves all that ended since the last.
        """
        agent = self._process.pid
        while True:
            await self._turn_ended.wait()
            self._turn_ended = trio.Event()
            with suppress(OSError):
                if find(lambda found: found.marker == self._marker and found.session != agent):
                    oldest = min(self._turns.values(), default=now_ticks() + 1)
                    await sweep_strays(self._marker, agent, oldest)
            await trio.sleep(SWEEP_PAUSE)
