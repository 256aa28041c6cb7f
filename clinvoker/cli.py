"""The command: `clinvoker serve`, `clinvoker keys`."""

import argparse
import contextlib
import faulthandler
import os
import signal
import sys
from collections.abc import Sequence

import trio

import clinvoker
from actors.supervisor import RestartsExhausted
from clinvoker import keys
from clinvoker.config import ConfigError, Options, Settings, load
from clinvoker.daemon import run_daemon
from clinvoker.http.sockets import BindError
from clinvoker.lock import StateError, lock_state
from clinvoker.logs import configure, get_logger
from clinvoker.reload import Load
from clinvoker.store import Database, StoreError
from clinvoker.watchdog import ActorStuck, watch_loop

EX_USAGE = 2
"""Something that the person at the keyboard can mend: the configuration, the port, the state directory."""
EX_SOFTWARE = 70
"""The supervision tree gave up (sysexits.h): whoever supervises the daemon starts it again."""
EX_INTERRUPTED = 128 + signal.SIGINT


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    arguments = _parser().parse_args(argv)
    _hold_standard_descriptors()

    def load_again(before: Settings | None) -> Settings:
        return load(_options(arguments), os.environ, before=before)

    try:
        if arguments.command == "keys":
            keys.run(arguments)
            return 0
        return _serve(load_again(None), load_again)
    except ConfigError as error:
        return _complain(str(error))
    except KeyboardInterrupt:  # before the daemon listens to signals: there is nothing to drain yet
        return EX_INTERRUPTED


def _serve(settings: Settings, load_again: Load) -> int:
    configure(settings.log.level, sys.stderr)
    with contextlib.suppress(
        OSError, ValueError, AttributeError, RuntimeError
    ):  # standard error may be closed
        faulthandler.register(signal.SIGQUIT)
    gave_up: BaseException | None = None
    try:
        with lock_state(settings.state_dir) as state_dir:
            database = Database(state_dir)
            if notice := database.prepare():
                get_logger("clinvoker").error("state restored", notice=notice)
            try:
                trio.run(_main, settings, database, load_again)
            except* (RestartsExhausted, ActorStuck) as errors:
                gave_up = errors
    except (StateError, StoreError, BindError) as error:
        return _complain(str(error))
    if gave_up is not None:
        get_logger("clinvoker").error("giving up", exc_info=gave_up)
        return EX_SOFTWARE
    return 0


async def _main(settings: Settings, database: Database, load_again: Load) -> None:
    with watch_loop():
        await run_daemon(settings, os.environ, database, load=load_again)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="clinvoker", description="Serve the coding agents of this machine.")
    parser.add_argument("--version", action="version", version=f"clinvoker {clinvoker.__version__}")
    commands = parser.add_subparsers(dest="command", required=True)
    serve = commands.add_parser("serve", help="run the daemon until SIGTERM or Ctrl-C")
    serve.add_argument("--config", metavar="FILE", help="the configuration file")
    serve.add_argument("--host", help="the address to listen on")
    serve.add_argument("--port", help="the port to listen on; 0 takes any free one")
    serve.add_argument("--backend", help="the backend of requests that name none")
    serve.add_argument("--state-dir", metavar="DIR", help="where the daemon keeps its state")
    serve.add_argument("--log-level", help="debug, info, warning or error")
    keys.add_arguments(commands.add_parser("keys", help="callers' keys: add, list, revoke"))
    return parser


def _options(arguments: argparse.Namespace) -> Options:
    return Options(
        config=arguments.config,
        host=arguments.host,
        port=arguments.port,
        backend=arguments.backend,
        state_dir=arguments.state_dir,
        log_level=arguments.log_level,
    )


def _complain(line: str) -> int:
    with contextlib.suppress(OSError, ValueError, AttributeError):
        sys.stderr.write(f"clinvoker: {line}\n")
        sys.stderr.flush()
    return EX_USAGE


def _hold_standard_descriptors() -> None:
    """Whatever of 0, 1 and 2 is closed becomes /dev/null, or the next file opened would be written to as stderr."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:  # noqa: PLR2004 - stderr
        os.set_inheritable(descriptor, True)  # noqa: FBT003 - the standard library's signature
    os.close(descriptor)
