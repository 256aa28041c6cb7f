"""No process of a run outlives the daemon, not even when the daemon is killed with SIGKILL.

Two nets. The guardian, a tiny process at the other end of a pipe, sees the daemon die and ends what it leaves
(`guardian_main`). Should both be killed, the next daemon does it at its start (`sweep_dead_instances`).

Not `PR_SET_PDEATHSIG`: it follows the thread that forked, and does not reach grandchildren.
"""

import logging
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Never

import trio

from actors.marker import Instance, owner_alive
from actors.process import run_sweep
from actors.scratch import remove_dead_directories
from actors.sweep import Sweep

_PROGRAM = Path(__file__).with_name("guardian_main.py")
_READY_S = 10.0
_STOP_S = 3.0
_RESPAWN_S = 0.2
_log = logging.getLogger(__name__)


async def keep_guardian(
    instance: Instance, *, task_status: trio.TaskStatus[int] = trio.TASK_STATUS_IGNORED
) -> Never:
    """Keep a guardian for the instance's processes until cancelled; one that dies is replaced within a second.

    Reports the first guardian's pid once it is on guard. To be cancelled after every agent has been stopped: the
    guardian takes it for the daemon's end, and kills what is left. It is then gone and reaped after 4 s at most.

    Raises OSError or trio.TooSlowError if the first one cannot be started; later failures are logged and tried again.
    """
    started = False

    def on_guard(pid: int) -> None:
        nonlocal started
        if not started:
            started = True
            task_status.started(pid)

    while True:
        try:
            await _guard(instance, on_guard)
        except (OSError, RuntimeError, trio.TooSlowError) as error:  # RuntimeError: no thread to start it in
            if not started:
                raise
            _log.warning("no guardian can be started, trying again: %s", error)
        await trio.sleep(_RESPAWN_S)


async def _guard(instance: Instance, on_guard: Callable[[int], None]) -> None:
    # An empty environment: no marker of a daemon around this one, so the guardian outlives even that daemon's sweep.
    # Its pipe is close-on-exec, as all that Python opens: an agent that inherited it would keep the end of file back.
    process = await trio.lowlevel.open_process(
        [sys.executable, "-S", "-E", "-P", str(_PROGRAM), instance.prefix],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        cwd="/",
        env={},
        start_new_session=True,
    )
    assert process.stdout is not None  # noqa: S101 - asked for
    try:
        with trio.fail_after(_READY_S):
            if not await process.stdout.receive_some(1):
                raise ChildProcessError(f"guardian {process.pid} ended before it was on guard")
        on_guard(process.pid)
        code = await process.wait()
        _log.warning("guardian %d ended with %d; starting another", process.pid, code)
    finally:
        await _dismiss(process)


async def _dismiss(process: trio.Process) -> None:
    assert process.stdin is not None  # noqa: S101 - asked for
    assert process.stdout is not None  # noqa: S101
    # Shielded, and bounded: an orphaned guardian would be harmless, a zombie or an open pipe not.
    with trio.CancelScope(shield=True):
        await process.stdin.aclose()
        await process.stdout.aclose()
        with trio.move_on_after(_STOP_S):
            await process.wait()
        if process.returncode is None:
            process.kill()
            with trio.move_on_after(1.0):
                await process.wait()


async def sweep_dead_instances() -> int:
    """End what daemons that no longer live have left behind, and return how many processes that were.

    For the start of a daemon. Spares the processes of every daemon that may be alive. Takes 20 ms if there is nothing to
    do, 0.5 s more for what ignores SIGTERM, and 5 s at most; then for as long as their directories take to remove.
    """
    sweep = Sweep(lambda found: not owner_alive(found.marker), term_s=0.5, limit_s=5.0)
    await run_sweep(sweep)
    if not sweep.done:
        _log.error("could not kill leftovers %s", [found.pid for found in sweep.left])
    await remove_dead_directories()
    return len(sweep.killed)
