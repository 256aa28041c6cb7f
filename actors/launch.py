"""How a program is started, and why it could not be.

In a thread, since `Popen` blocks until `exec` has happened; not in one of those that everyone shares, or a slow disk
elsewhere would keep agents from starting. No `preexec_fn`: it makes each start slower and is not safe with threads.
"""

import errno
import os
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Literal

import trio
from msgspec import Struct

from actors.marker import ENV

_spawning = trio.CapacityLimiter(8)

Fault = Literal[
    "missing", "not_executable", "bad_format", "cwd", "text_busy", "resources", "too_big", "nul", "other"
]
"""Why a process could not be started; `resources` may pass by itself, the others need somebody's hand."""

_FAULTS: dict[int, Fault] = {
    errno.ENOENT: "missing",
    errno.ENOTDIR: "missing",
    errno.EACCES: "not_executable",
    errno.EPERM: "not_executable",
    errno.EISDIR: "not_executable",
    errno.ENOEXEC: "bad_format",
    errno.ELIBBAD: "bad_format",
    errno.ETXTBSY: "text_busy",
    errno.EAGAIN: "resources",
    errno.ENOMEM: "resources",
    errno.EMFILE: "resources",
    errno.ENFILE: "resources",
    errno.ENOSPC: "resources",
    errno.E2BIG: "too_big",
    errno.ENAMETOOLONG: "too_big",
}


class Launch(Struct, frozen=True):
    """How to start an agent: the whole environment (the marker is added), and a directory, by its real path.

    `argv[0]` is looked up on the PATH of `env`.
    """

    argv: tuple[str, ...]
    env: dict[str, str]
    cwd: str

    def __repr__(self) -> str:
        # Arguments may hold a prompt and the environment holds keys: neither belongs into a log.
        return f"Launch({self.argv[0] if self.argv else ''!r}, cwd={self.cwd!r})"


class LaunchError(Exception):
    """The process could not be started, and nothing of it is left; `kind` says why."""

    def __init__(self, kind: Fault, message: str) -> None:
        super().__init__(message)
        self.kind: Fault = kind
        self.message = message


async def start(launch: Launch, marker: str) -> tuple[subprocess.Popen[bytes], int]:
    """Start the program, as leader of its own session and with pipes to it; return it with a pidfd.

    Whoever calls this owns both, and the process group. Nothing else of the daemon is open in it.

    Raises LaunchError.
    """
    try:
        # Never abandoned: the thread returns when `exec` has succeeded or failed.
        return await trio.to_thread.run_sync(_spawn, launch, marker, limiter=_spawning)
    except RuntimeError as error:
        raise LaunchError("resources", "no thread could be started to launch the program") from error


def _spawn(launch: Launch, marker: str) -> tuple[subprocess.Popen[bytes], int]:
    if not launch.argv or not launch.argv[0]:
        raise LaunchError("missing", "no program is named")
    if not Path(launch.cwd).is_absolute():
        raise LaunchError("cwd", f"the directory must be absolute: {launch.cwd!r}")
    try:
        popen = _start_in(launch, marker)
    except OSError as error:
        raise _launch_error(launch, error) from error
    except ValueError as error:
        raise LaunchError(
            "nul", "an argument or variable holds what no program can be given (NUL)"
        ) from error
    try:
        return popen, os.pidfd_open(popen.pid)
    except OSError as error:
        os.killpg(popen.pid, signal.SIGKILL)
        with popen:  # closes the pipes and reaps
            raise _launch_error(launch, error) from error


def _start_in(launch: Launch, marker: str) -> subprocess.Popen[bytes]:
    """Start the program in the very directory that was checked, and not where a link leads that took its place since."""
    directory = os.open(launch.cwd, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        held = f"/proc/self/fd/{directory}"
        if str(Path(held).readlink()) != os.path.normpath(launch.cwd):
            raise LaunchError("cwd", f"the directory {launch.cwd!r} is behind a link")
        try:
            return subprocess.Popen(  # noqa: S603 - starting what the configuration names is the purpose
                launch.argv,
                bufsize=0,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                cwd=held,
                env={**launch.env, ENV: marker},
                start_new_session=True,
            )
        except OSError as error:
            if error.filename == held:
                error.filename = launch.cwd
            raise
    finally:
        os.close(directory)


def _launch_error(launch: Launch, error: OSError) -> LaunchError:
    kind = _FAULTS.get(error.errno or 0, "other")
    program = launch.argv[0]
    if error.filename == launch.cwd and kind in {"missing", "not_executable"}:
        return LaunchError("cwd", f"the directory {launch.cwd!r} cannot be entered: {error.strerror}")
    if kind == "missing" and _exists(launch):
        return LaunchError("bad_format", f"{program!r} cannot be started: its interpreter is missing")
    return LaunchError(kind, f"{program!r} cannot be started: {error.strerror}")


def _exists(launch: Launch) -> bool:
    program = launch.argv[0]
    if "/" in program:
        return Path(launch.cwd, program).exists()
    return shutil.which(program, path=os.pathsep.join(os.get_exec_path(launch.env))) is not None
