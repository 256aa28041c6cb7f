r"""A process tree that is gone when the block is left.

    launch = Launch(("claude", "--print"), env={"PATH": "/usr/bin"}, cwd="/work")
    async with open_process(launch, marker=instance.marker(7), grace=3.0) as process:
        await process.send(b"{...}\n")
        async for lines in process.receive_lines():  # all the lines of one read at a time
            ...

However the block is left, the agent and every tool it started are dead and reaped after `grace` seconds at most. The
agent's zombie is kept until then on purpose: as long as it is there, its pid, group and session cannot change hands.

trio's own `Process` is not used: it reaps on the first look, and kills one process instead of a tree.

Sources: clis.md 7 (what survives which signal), setsid(2), credentials(7), pidfd_open(2), pipe(7).
"""

import contextlib
import logging
import os
import signal
import subprocess
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import IO

import trio

from actors.launch import Launch, LaunchError, start
from actors.lines import LINE_LIMIT, Tail
from actors.marker import Found, now_ticks
from actors.output import Output, read
from actors.sweep import Sweep

__all__ = [
    "Launch",
    "LaunchError",
    "Process",
    "ProcessGone",
    "SendTimeout",
    "open_process",
    "run_sweep",
    "sweep_strays",
]

_TERM_SHARE = 0.6
"""The part of the grace that an agent gets to end by itself; the rest is for SIGKILL and the sweep."""

_KILL_S = 0.5
"""What the kernel gets at least to bury a killed tree, however small the grace."""

_log = logging.getLogger(__name__)


class ProcessGone(Exception):  # noqa: N818 - named, like trio's own, for what happened
    """The process has ended, or takes no more input."""


class SendTimeout(ProcessGone):
    """The process did not read its input in time. What it got may end in the middle, so it is not written to again."""


class Process:
    """A running process tree, as `open_process` gives it."""

    def __init__(
        self,
        popen: subprocess.Popen[bytes],
        pidfd: int,
        *,
        marker: str,
        grace: float,
        send_timeout: float,
        drain_s: float,
        line_limit: int,
    ) -> None:
        assert popen.stdin is not None  # noqa: S101 - for the type checker: all three were asked for
        assert popen.stdout is not None  # noqa: S101
        assert popen.stderr is not None  # noqa: S101
        self._popen = popen
        self._stdin, self._stdout, self._stderr = popen.stdin, popen.stdout, popen.stderr
        self._pidfd = pidfd
        self._grace = grace
        self._send_timeout = send_timeout
        self._sending = trio.Lock()
        self._tail = Tail()
        self._lines = Output(self._stdout.fileno(), drain_s, line_limit)
        self._ended = trio.Event()
        self._attending = trio.CancelScope(shield=True)
        self._left_alone = trio.Event()
        self.marker = marker
        self.pid: int = popen.pid
        """The pid, and the process group and session of the agent."""
        self.started_ticks = now_ticks()
        self.returncode: int | None = None
        """The exit code, negative for a signal; None while it runs."""
        for pipe in (self._stdin, self._stdout, self._stderr):
            os.set_blocking(pipe.fileno(), False)

    def __repr__(self) -> str:
        return f"<Process {self.pid} returncode={self.returncode}>"

    @property
    def stderr_tail(self) -> bytes:
        """The last 64 KiB of standard error; complete once `wait` has returned."""
        return bytes(self._tail)

    @property
    def takes_input(self) -> bool:
        """Whether it can still be written to."""
        return not self._stdin.closed

    @property
    def oversize(self) -> int:
        """How many lines were dropped so far for being longer than the limit (16 MiB)."""
        return self._lines.oversize

    async def wait(self) -> int:
        """Wait until the process (not its children) has ended, and return its exit code, negative for a signal."""
        await self._ended.wait()
        assert self.returncode is not None  # noqa: S101 - set before the event
        return self.returncode

    def receive_lines(self) -> AsyncIterator[list[bytes]]:
        """Iterate over the output in batches: all the lines that one read completes, without their newlines.

        One position for all callers: a second loop goes on where the first one stopped. Ends at end of file, or when
        the process has ended and its output has been read, though some grandchild may still hold the pipe: that one
        gets `drain_s` seconds more. Not reading makes the process wait.

        Raises trio.BusyResourceError if two tasks read at once.
        """
        return self._lines

    async def send(self, data: bytes) -> None:
        """Write to the process's standard input; one sender at a time, in order of calling.

        Cancelled in the middle of `data`, it closes the input, since what follows would be garbage to the reader.

        Raises ProcessGone if the process has ended or closed its input, SendTimeout (a ProcessGone) if it takes not one
        byte for `send_timeout` seconds.
        """
        async with self._sending:
            rest = memoryview(data)
            try:
                while rest:
                    rest = rest[await self._write(rest) :]
            finally:
                if rest and len(rest) < len(data):
                    self._close(self._stdin)
        await trio.lowlevel.cancel_shielded_checkpoint()

    async def _write(self, data: memoryview) -> int:
        while not self._stdin.closed:
            try:
                return os.write(self._stdin.fileno(), data)
            except BlockingIOError:
                pass
            except BrokenPipeError:
                self._close(self._stdin)
                break
            with trio.move_on_after(self._send_timeout) as waiting:
                try:
                    await trio.lowlevel.wait_writable(self._stdin.fileno())
                except trio.ClosedResourceError:
                    break
            if waiting.cancelled_caught:
                self._close(self._stdin)
                raise SendTimeout(f"process {self.pid} has read nothing for {self._send_timeout:g} s")
        why = "takes no more input" if self.returncode is None else f"ended with {self.returncode}"
        raise ProcessGone(f"process {self.pid} {why}")

    async def attend(self) -> None:
        """Notice the process's end and drain its standard error until `stop`; `open_process` runs this."""
        # Shielded: whoever cancels the block must still have its tree stopped with both at work. `stop` ends it.
        try:
            with self._attending:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._notice_end)
                    nursery.start_soon(self._drain_stderr)
        finally:
            self._left_alone.set()

    async def stop(self) -> None:
        """End the whole tree and reap it, within the grace, whatever it does; `open_process` calls this.

        Its standard input is closed and the group gets SIGTERM; what still runs then gets SIGKILL.
        """
        # Shielded, and bounded: each wait below has its own limit, or is for what has been cancelled.
        with trio.CancelScope(shield=True):
            kill_s = max(self._grace * (1 - _TERM_SHARE), _KILL_S)
            sweep = Sweep(lambda found: found.marker == self.marker, sessions=(self.pid,), limit_s=kill_s)
            # Now, as long as parents live, descendants without a marker can be told.
            sweep.look()
            async with trio.open_nursery() as nursery:
                self._close(self._stdin)
                # An agent that says farewell on a full pipe must not hang on it.
                nursery.start_soon(self._lines.discard)
                if self.returncode is None:
                    self._signal(signal.SIGTERM)
                    self._signal(signal.SIGCONT)
                    with trio.move_on_after(self._grace * _TERM_SHARE):
                        await self._ended.wait()
                # Also when the agent has ended: its zombie still holds the number of the group for us.
                self._signal(signal.SIGKILL)
                with trio.move_on_after(kill_s):
                    await self._ended.wait()
                nursery.cancel_scope.cancel()
            self._attending.cancel()
            # Its tasks must not wake up to closed pipes.
            await self._left_alone.wait()
            # Before the sweep, which needs descriptors: these are some.
            for pipe in (self._stdin, self._stdout, self._stderr):
                self._close(pipe)
            await run_sweep(sweep)
            self._reap()
            if not sweep.done or self._popen.returncode is None:
                _log.error("could not kill %s", sorted({self.pid} | {found.pid for found in sweep.left}))

    def _reap(self) -> None:
        trio.lowlevel.notify_closing(self._pidfd)
        os.close(self._pidfd)
        # Not `wait`: what is stuck in the kernel `subprocess` itself will poll for later.
        self._popen.poll()

    def _signal(self, signum: int) -> None:
        # Safe until the agent is reaped, see above. No such process: SIGKILL had nobody left to reach.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signum)

    @staticmethod
    def _close(pipe: IO[bytes]) -> None:
        if not pipe.closed:
            trio.lowlevel.notify_closing(pipe.fileno())
            pipe.close()

    async def _notice_end(self) -> None:
        await trio.lowlevel.wait_readable(self._pidfd)
        end = os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)  # noqa: ASYNC222 - does not
        assert end is not None  # noqa: S101 - a readable pidfd means that it has ended
        # What it said last is in the pipe now, all of it: a pipe holds no more than one read.
        self._read_stderr()
        self.returncode = end.si_status if end.si_code == os.CLD_EXITED else -end.si_status
        self._lines.process_ended()
        # A grandchild may hold the other end and take what is meant for its parent.
        self._close(self._stdin)
        self._ended.set()

    async def _drain_stderr(self) -> None:
        while True:
            await trio.lowlevel.wait_readable(self._stderr.fileno())
            if not self._read_stderr():
                return

    def _read_stderr(self) -> bool:
        data = read(self._stderr.fileno())
        if data:
            self._tail.feed(data)
        return data != b""


@asynccontextmanager
async def open_process(
    launch: Launch,
    *,
    marker: str,
    grace: float,
    send_timeout: float = 10.0,
    drain_s: float = 1.0,
    line_limit: int = LINE_LIMIT,
) -> AsyncGenerator[Process, None]:
    """Start a process in a session of its own; when the block is left, its whole tree is gone.

    `marker` must not have been used before (`Instance.marker`). Leaving takes up to `grace` seconds, cancelled or not.
    Exceptions of the block come out as they are, not in a group.

    Raises LaunchError if it cannot be started.
    """
    popen, pidfd = await start(launch, marker)
    # No checkpoint from here to the `try`, or a cancellation would leave a process behind.
    process = Process(
        popen,
        pidfd,
        marker=marker,
        grace=grace,
        send_timeout=send_timeout,
        drain_s=drain_s,
        line_limit=line_limit,
    )
    failure: Exception | None = None
    async with trio.open_nursery() as nursery:
        nursery.start_soon(process.attend)
        try:
            yield process
        except Exception as error:  # noqa: BLE001 - raised again below: the nursery would wrap it
            failure = error
        finally:
            await process.stop()
    if failure is not None:
        raise failure


async def sweep_strays(marker: str, agent_session: int, before_ticks: int) -> int:
    """Kill the tools that a turn left running, while their agent stays; return how many.

    A stray carries the marker, has a session other than the agent's (which its MCP servers share) and started before
    `before_ticks` (`now_ticks()` when the turn ended), or is the kin of one that did. Takes 1 s at most,
    20 ms if there is nothing to do. For an agent that holds several conversations: only while no turn is running.
    """

    def is_stray(found: Found) -> bool:
        return found.marker == marker and found.session != agent_session and found.ticks < before_ticks

    sweep = Sweep(is_stray, limit_s=1.0)
    await run_sweep(sweep)
    return len(sweep.killed)


async def run_sweep(sweep: Sweep) -> None:
    """Do a sweep, waiting between its steps."""
    for pause in sweep:
        await trio.sleep(pause)
