"""One run: what a request asked for, its numbered event log, and whoever follows it.

The work is a function given by whoever started the run (a turn, a fan-out); it records events and returns. However it
ends, the log ends with exactly one `Complete` or `Failed`. A follower reads the log from its own cursor and gets all
that is new in one batch, so a slow reader stalls nobody.

An attached run is cancelled when its last follower has gone and none has come back within the grace; a detached one
goes on by itself.
"""

import math
import secrets
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import trio
from msgspec.structs import replace

from actors.actor import Actor
from actors.calls import Abandon, AnswerCalls, Calls, Deliver
from actors.change import Change
from actors.errors import Code, Refusal
from actors.journal import Journal
from actors.mailbox import Ask, Emit, Stream, Tell
from actors.messages import Complete, Entry, Failed, Usage, as_failed
from actors.recorder import Identity, Recorder, RunLimits
from actors.telemetry import Observer, RunEnded, RunStarted, StreamFailed

PAGE = 1024
"""Entries that a follower gets at once, at most."""

KEEP = 4096
"""Entries that are kept at once, at most."""

CLOSE_PAUSE = 0.5
CLOSE_PAUSE_MOST = 15.0
"""Seconds between two attempts to tell a journal that failed how the run ended."""


class Follow(Stream[list[Entry]], frozen=True):
    """The run's entries after number `after`, all that is new at a time, to the end."""

    after: int = 0


class Identify(Ask[Identity], frozen=True):
    """Who the run is."""


class Look(Ask[Complete | Failed | None], frozen=True):
    """How the run ended, as soon as its readers may know; None before."""


class Cancel(Ask[bool], frozen=True):
    """Stop the run; answered with whether it was still going."""


class GiveWay(Ask[bool], frozen=True):
    """Stop the run if it waits for its client, for others wait for its place; answered with whether it did."""


class Answer(Ask[None], frozen=True):
    """The caller's answer to a permission. Refused (`NOT_FOUND`, `INVALID_REQUEST`) if that was not asked."""

    permission: str
    leave: str


def new_id(prefix: str) -> str:
    """Return an id that nobody can guess: 128 random bits."""
    return f"{prefix}_{secrets.token_hex(16)}"


Work = Callable[[Recorder], Awaitable[None]]
"""What a run does. Raises `Refusal` for an expected no."""


class Run(Actor):
    """Does the work of one run, and serves its log until nobody follows it any more."""

    def __init__(
        self,
        identity: Identity,
        work: Work,
        limits: RunLimits,
        observe: Observer,
        journal: Journal | None = None,
    ) -> None:
        super().__init__()
        self._journal = journal
        self._identity = identity
        self._work = work
        self._limits = limits
        self._observe = observe
        calls = Calls(identity.run_id, limits.client_tool, self._note_calls, self._give_up_client)
        self._recorder = Recorder(identity, limits, calls, kept=journal is not None)
        self.began = self._recorder.began
        self._scope = trio.CancelScope()
        self._time = trio.CancelScope()
        """What the whole run may take; not counted while the client runs its tools."""
        self._cut_short: Failed | None = None
        self._keeping = trio.CancelScope(shield=True)
        self._kept = journal is None
        """Whether nothing more will be kept."""
        self._reported = False
        self._over = trio.Event()
        """Set once the work has ended and all its events are kept."""
        self._closed = trio.Event()
        """Set once the journal has the end as well."""
        self._followers = 0
        self._readers = Change()

    async def started(self) -> None:
        """Begin the work, beside the mailbox."""
        self._observe(RunStarted(self._identity.backend))
        self.nursery.start_soon(self._do_work)
        self.nursery.start_soon(self._keep_events)
        self.nursery.start_soon(self._watch_followers)

    async def receive(self, message: Tell | Ask[Any]) -> object:  # noqa: PLR0911 - a table
        """Answer `Identify`, `Look`, `Cancel`, `GiveWay`, `Answer`, `Deliver`, `AnswerCalls` and `Abandon`."""
        match message:
            case Identify():
                return self._identity
            case Look():
                return self._recorder.outcome if self._recorder.log.is_told else None
            case Cancel():
                going = self._recorder.outcome is None
                self._cut(Failed(Code.CANCELLED, "the run was cancelled"))
                return going
            case GiveWay():
                held = self._recorder.outcome is None and self._recorder.calls.held
                if held:
                    why = (
                        "others waited for the place of a run whose client took its time with its tool calls"
                    )
                    self._cut(Failed(Code.TIMEOUT, why))
                return held
            case Answer(permission=permission, leave=leave):
                self._recorder.answer(permission, leave)
                return None
            case Deliver(calls=calls, upto=upto):
                self._recorder.calls.deliver(calls, upto)
                return None
            case AnswerCalls():
                return self._answer_calls(message)
            case Abandon(calls=calls):
                self._abandon(calls)
                return None
            case _:
                return await super().receive(message)

    async def admit(self, message: Stream[Any]) -> None:
        """Accept a follower."""
        if not isinstance(message, Follow):
            await super().admit(message)
        self._count_follower(1)

    async def produce(self, message: Stream[Any], emit: Emit[Any]) -> None:
        """Send a follower everything from its cursor on, as fast as it takes it."""
        if not isinstance(message, Follow):
            await super().produce(message, emit)
            return
        log = self._recorder.log
        seq = message.after
        try:
            while True:
                await log.wait_after(seq)
                page = await self._page(seq)
                if not page and seq < log.dropped:
                    raise Refusal(Code.NOT_FOUND, "the run's events are gone: its session was deleted")
                if not page:
                    return
                seq = page[-1].seq
                await emit(page)
        finally:
            self._count_follower(-1)

    async def stopping(self) -> None:
        """The daemon goes down: end the work, and let the followers have the last event."""
        if self._recorder.outcome is None:
            self._cut(Failed(Code.DRAINING, "the daemon is shutting down"))
        try:
            await self._over.wait()
            await self._wait_deserted()
        finally:
            # A store that does not answer holds up no stop.
            self._keeping.shield = False

    async def _do_work(self) -> None:
        failure: Failed | None = None
        try:
            self._time.deadline = trio.current_time() + self._limits.total
            with self._scope, self._time:
                await self._work(self._recorder)
            if self._time.cancelled_caught:
                failure = Failed(Code.TIMEOUT, f"the run took longer than {self._limits.total:g} s")
        except Refusal as refusal:
            failure = as_failed(refusal)
        except Exception as error:  # noqa: BLE001 - whatever broke ends this run only, and its readers are told
            failure = Failed(Code.INTERNAL, "the run failed inside the daemon; its log says more")
            self._observe(StreamFailed(self.ref.name, type(self._work).__name__, repr(error)))
        finally:
            nothing = Failed(Code.INTERNAL, "the run ended without a result")
            self._recorder.record([failure or self._cut_short or nothing])
            self._readers.announce()  # nobody is waited for any more
            if self._kept:
                self._report()

    async def _page(self, seq: int) -> list[Entry]:
        """The entries after number `seq`; what a slow reader missed here comes back from the journal."""
        log = self._recorder.log
        if seq < log.dropped and self._journal is not None:
            return await self._journal.after(seq, min(PAGE, log.dropped - seq))
        return log.after(seq, PAGE)

    async def _keep_events(self) -> None:
        """Keep the events as they come; readers get them after that. A run that cannot be kept ends, and says so."""
        log = self._recorder.log
        broken = False
        if self._journal is not None:
            try:
                # Not cut short with the rest: an end that nobody keeps would look like a run that never ended.
                with self._keeping:
                    broken = not await self._keep_all(self._journal)
            finally:
                self._kept = True
                self._report()
        await log.wait_after(sys.maxsize)
        self._over.set()
        if broken and self._journal is not None and isinstance(self._recorder.outcome, Failed):
            await self._close_journal(self._journal, self._recorder.outcome)
        self._closed.set()

    async def _keep_all(self, journal: Journal) -> bool:
        """Keep everything up to the run's end; returns whether that went well."""
        log = self._recorder.log
        try:
            while True:
                await log.wait_unkept()
                entries = log.unkept(KEEP)
                if not entries:
                    return True
                await journal.append(entries)
                log.keep(entries[-1].seq)
        except Refusal as refusal:
            failed = as_failed(refusal)
        except Exception as error:  # noqa: BLE001 - a bug there ends this run only, and its readers are told
            failed = Failed(Code.INTERNAL, "the run could not be kept; the daemon's log says more")
            self._observe(StreamFailed(self.ref.name, type(journal).__name__, repr(error)))
        self._recorder.take_back(self._cut_short or failed)
        self._cut(failed)
        return False

    async def _close_journal(self, journal: Journal, failed: Failed) -> None:
        """Tell the journal the end, as soon as it takes it: there, the run would look as if it still went."""
        pause = CLOSE_PAUSE
        while True:
            try:
                await journal.close(failed)
            except Refusal:
                await trio.sleep(pause)
                pause = min(pause * 2, CLOSE_PAUSE_MOST)
            else:
                return

    def _cut(self, why: Failed) -> None:
        """Cancel the work; the first reason is the one that is told."""
        self._cut_short = self._cut_short or why
        self._scope.cancel()

    async def _watch_followers(self) -> None:
        """Cancel an attached run that is deserted; end the actor once the work is done and nobody reads."""
        while not await self._deserted_for_good():
            await self._wait_deserted()
        await self._closed.wait()
        self.end()

    async def _deserted_for_good(self) -> bool:
        with trio.move_on_after(self._limits.reattach):
            await self._readers.wait_until(lambda: self._awaited)
        if not self._awaited:
            if not self._identity.detached and self._recorder.outcome is None:
                self._cut(Failed(Code.CANCELLED, "the caller went away"))
            await self._over.wait()
        return not self._awaited

    @property
    def _awaited(self) -> bool:
        """Whether somebody reads, or will: the client that was told of calls answers them with another request."""
        return self._followers > 0 or (self._recorder.outcome is None and self._recorder.calls.held)

    async def _wait_deserted(self) -> None:
        await self._readers.wait_until(lambda: not self._awaited)

    def _note_calls(self) -> None:
        """Stop the time while the client runs its tools; its next request has all of it again."""
        waiting = self._recorder.calls.waiting
        self._time.deadline = math.inf if waiting else trio.current_time() + self._limits.total
        self._readers.announce()

    def _answer_calls(self, given: AnswerCalls) -> int:
        after = self._recorder.calls.answer(given.answers)
        if given.detach:
            self._identity = replace(self._identity, detached=True)
        return after

    def _abandon(self, calls: tuple[str, ...]) -> None:
        if self._recorder.calls.waits_for(calls):
            self._cut(Failed(Code.CANCELLED, "the client went on without its tool calls' results"))

    def _give_up_client(self) -> None:
        patience = self._limits.client_tool
        self._cut(Failed(Code.TIMEOUT, f"the client did not answer its tool calls within {patience:g} s"))

    def _count_follower(self, change: int) -> None:
        self._followers += change
        self._readers.announce()

    def _report(self) -> None:
        """Report the end, once: as it was told."""
        outcome = self._recorder.outcome
        if self._reported or outcome is None:
            return
        self._reported = True
        self._observe(
            RunEnded(
                run_id=self._identity.run_id,
                backend=self._identity.backend,
                outcome=outcome.code if isinstance(outcome, Failed) else "complete",
                duration=trio.current_time() - self._recorder.began,
                first_event=self._recorder.first_event,
                usage=outcome.token_usage if isinstance(outcome, Complete) else Usage(),
            )
        )
