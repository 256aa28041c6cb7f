"""Logs: readable, free of secrets, and never in the way of the work."""

import contextlib
import fcntl
import io
import json
import logging
import os
import pty
import select
import socket
import subprocess
import sys
import textwrap
import threading
import time
import tty
import warnings
from pathlib import Path

import msgspec
import pytest
import structlog

from clinvoker.config import Options, load
from clinvoker.logs import LineWriter, configure, get_logger, set_level

SECRET = "canary-4f1d9c-canary"  # noqa: S105


@pytest.fixture(autouse=True)
def logging_as_before():
    """Give the process back the logging that it had."""
    root, config = logging.getLogger(), structlog.get_config()
    handlers, level, showwarning = root.handlers[:], root.level, warnings.showwarning
    yield
    logging.captureWarnings(capture=False)
    warnings.showwarning = showwarning
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.configure(**config)


@pytest.fixture
def log_file(tmp_path):
    """Log to a file at level info; the value reads back what was written, one object a line."""
    path = tmp_path / "log"
    with path.open("ab") as stream:
        writer = configure("info", stream)
        yield lambda: [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        writer.close()


class Fd:
    """A stream that is a descriptor and no more."""

    def __init__(self, number):
        self.number = number

    def fileno(self):
        return self.number


def fill(descriptor):
    """Write until nothing more fits, without leaving the descriptor non-blocking."""
    os.set_blocking(descriptor, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(descriptor, b"x" * 512)
    os.set_blocking(descriptor, True)


def is_nonblocking(descriptor):
    return bool(fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_NONBLOCK)


def descriptors():
    """Return the descriptors that this process has open."""
    return {int(path.name) for path in Path("/proc/self/fd").iterdir() if path.exists() or path.is_symlink()}


def drain(descriptor):
    """Read all that is there now."""
    data = b""
    while select.select([descriptor], [], [], 0.02)[0] and (chunk := os.read(descriptor, 65536)):
        data += chunk
    return data


def caught(error):
    """Return `error` as it is in the hands of whoever caught it: with a traceback."""
    try:
        raise error
    except type(error) as itself:
        return itself


def in_time(action, seconds=5):
    """Fail, rather than hang, when `action` waits."""
    thread = threading.Thread(target=action, daemon=True)
    thread.start()
    thread.join(seconds)
    assert not thread.is_alive(), "it waits"


# --- lines -------------------------------------------------------------------------------------------------------


def test_a_line_is_one_object_with_time_level_and_event_first(log_file):
    get_logger("clinvoker.pool").warning("runner died", backend="claude", code=3, ok=False, at=None, took=0.5)
    [line] = log_file()
    assert list(line)[:3] == ["timestamp", "level", "event"]
    assert line.pop("timestamp").endswith("Z")
    assert line == {
        "level": "warning",
        "event": "runner died",
        "logger_name": "clinvoker.pool",
        "backend": "claude",
        "code": 3,
        "ok": False,
        "at": None,
        "took": 0.5,
    }


def test_an_exception_is_told_with_its_traceback(log_file):
    get_logger("x").error("failed", exc_info=caught(ValueError("no")))
    [line] = log_file()
    assert line["exception"].startswith("Traceback")
    assert line["exception"].endswith("ValueError: no")


def test_a_level_drops_what_is_less_and_can_be_changed_for_loggers_that_exist(log_file):
    log = get_logger("x")
    log.debug("one")
    log.info("two")
    set_level("error")
    log.warning("three")
    log.error("four")
    set_level("debug")
    log.debug("five")
    assert [line["event"] for line in log_file()] == ["two", "four", "five"]


def test_bound_context_is_in_every_line(log_file):
    with structlog.contextvars.bound_contextvars(run_id="run_1"):
        get_logger("x").info("one")
    get_logger("x").info("two")
    assert [line.get("run_id") for line in log_file()] == ["run_1", None]


def test_values_that_json_lacks_do_not_break_the_line(log_file):
    ring = []
    ring.append(ring)

    class Bad:
        def __repr__(self):
            raise RuntimeError("bad")

    log = get_logger("x")
    log.info("a", nan=float("nan"), inf=float("-inf"), huge=10**5000, small=-5)
    log.info("b", ring=ring, keys={1: {2}})
    log.info("c", lone="\udcff")
    log.info("d", bad=Bad())
    a, b, c, failed = log_file()
    assert (a["nan"], a["inf"], a["huge"], a["small"]) == ("[float]", "[float]", "[int]", -5)
    assert "too deep" in str(b["ring"])
    assert b["keys"] == {"1": [2]}
    assert c["lone"] == "\udcff"
    assert (failed["event"], failed["error"]) == ("a log line could not be written", "RuntimeError")


@pytest.mark.parametrize(
    "char", ["\x00", "\x07", "\x08", "\n", "\r", "\x1b", "\x7f", "\x9b", "\u2028", "\u202e"]
)
def test_a_control_character_never_reaches_a_file(tmp_path, char):
    path = tmp_path / "log"
    with path.open("wb") as stream:
        configure("info", stream)
        get_logger(f"a{char}b").info(f"a{char}b", **{f"c{char}d": f"e{char}f"})
    raw = path.read_bytes().decode()
    assert raw.count("\n") == 1
    assert raw.removesuffix("\n").isprintable()
    assert json.loads(raw)["event"] == f"a{char}b"


# --- redaction ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "prompt",
        "api_key",
        "authorization",
        "key",
        "token",
        "secret",
        "text",
        "output",
        "env",
        "Authorization",
        "X-Api-Key",
    ],
)
def test_a_field_is_hidden_by_its_name_at_any_depth(log_file, name):
    class Message(msgspec.Struct):
        prompt: str
        number: int

    log = get_logger("x")
    log.info("plain", **{name: SECRET})
    log.info("nested", request={"headers": [{name: SECRET}, ({name: [SECRET]},)], "size": 5})
    log.info("struct", message=Message(SECRET, 7))
    plain, nested, struct = log_file()
    assert plain[name] == "[redacted]"
    assert nested["request"] == {"headers": [{name: "[redacted]"}, [{name: "[redacted]"}]], "size": 5}
    assert struct["message"] == {"prompt": "[redacted]", "number": 7}


def test_a_field_that_only_resembles_a_hidden_one_is_shown(log_file):
    get_logger("x").info("a", tokens=3, keys_loaded=2, context="c", environment="e")
    [line] = log_file()
    assert (line["tokens"], line["keys_loaded"], line["context"], line["environment"]) == (3, 2, "c", "e")


def test_bytes_are_counted_and_not_shown(log_file):
    get_logger("x").info("a", headers=[(b"authorization", SECRET.encode())])
    assert log_file()[0]["headers"] == [["[13 bytes]", f"[{len(SECRET)} bytes]"]]


def test_what_lies_too_deep_is_not_shown(log_file):
    value = SECRET
    for _ in range(20):
        value = [value]
    get_logger("x").info("a", deep=value)
    assert SECRET not in json.dumps(log_file())


def test_the_settings_can_be_logged_without_telling_a_key(log_file):
    settings = load(
        Options(config="/dev/null"), {"CLINVK_API_KEY": SECRET, "CLINVK_API_KEYS": f"a,{SECRET}2"}
    )
    log = get_logger("x")
    log.info("settings", settings=settings, one=settings.api_keys[0], some=list(settings.api_keys))
    log.info("the settings are %s", settings)
    log.info(str(settings), keys=f"{settings.api_keys}")
    text = json.dumps(log_file())
    assert "8080" in text
    assert "canary" not in text


# --- libraries ---------------------------------------------------------------------------------------------------


def test_the_libraries_own_logging_joins_in_from_warning_upwards(log_file):
    logging.getLogger("hypercorn.error").info("Running on http://127.0.0.1")
    logging.getLogger("quart.app").warning("slow %s", "handler")
    logging.getLogger("hypercorn.error").error("failed", exc_info=ValueError("no"))
    logging.getLogger("x").log(35, "between levels")
    one, two, three = log_file()
    assert (one["logger_name"], one["level"], one["event"]) == ("quart.app", "warning", "slow handler")
    assert three["level"] == "warning"
    assert two["exception"].endswith("ValueError: no")


def test_a_librarys_mistake_in_a_log_call_is_still_a_line(log_file):
    [ours] = [
        handler
        for handler in logging.getLogger().handlers
        if type(handler).__module__ == "clinvoker.logs.setup"
    ]
    ours.handle(logging.LogRecord("x", logging.ERROR, "x.py", 1, "%s and %s", (1,), None))
    assert log_file()[0]["event"] == "%s and %s"


def test_a_warning_becomes_a_line():
    done = python("""
        import sys, warnings
        from clinvoker.logs import configure
        configure("info", sys.stderr)
        warnings.warn("old")
        """)
    [line] = done.stderr.splitlines()
    assert "UserWarning: old" in json.loads(line)["event"]


# --- terminals ---------------------------------------------------------------------------------------------------


@pytest.fixture
def terminal():
    master, slave = pty.openpty()
    tty.setraw(slave)
    yield master, slave
    os.close(master)
    os.close(slave)


def test_a_terminal_gets_lines_for_people(terminal):
    master, slave = terminal
    configure("info", Fd(slave), colors=False)
    get_logger("clinvoker.pool").info("runner died", backend="claude", prompt=SECRET)
    shown = drain(master).decode()
    assert "[info     ] runner died" in shown
    assert "backend=claude" in shown
    assert "canary" not in shown


def test_only_our_own_colors_reach_a_terminal(terminal):
    master, slave = terminal
    log = get_logger("x")
    configure("info", Fd(slave))
    log.info("plain")
    assert b"\x1b[" in drain(master)
    configure("info", Fd(slave), colors=False)
    log.info("a\x1b[31m", **{"b\x07": "c\x9b\n", "d": ["e\x1b", {"f\r": "g"}]})
    log.error("h\n", exc_info=caught(ValueError("\x1b]0;title\x07")))
    shown = drain(master).decode()
    assert r"\x1b]0;title\x07" in shown
    assert shown.replace("\n", "").isprintable()


def test_a_terminal_keeps_its_mode(terminal):
    _, slave = terminal
    configure("info", Fd(slave))
    get_logger("x").info("a")
    assert not is_nonblocking(slave)


def test_a_stopped_terminal_does_not_stop_us(terminal):
    _, slave = terminal
    fill(slave)
    writer = configure("info", Fd(slave))
    in_time(lambda: [get_logger("x").info("a" * 100) for _ in range(1000)])
    assert writer.dropped > 0


# --- full, closed, gone ------------------------------------------------------------------------------------------


@pytest.fixture
def pipe():
    reader, writer = os.pipe()
    yield reader, writer
    for descriptor in (reader, writer):
        with contextlib.suppress(OSError):  # the test closed it
            os.close(descriptor)


def without_proc(monkeypatch):
    """Make the writer do without /proc, as on macOS or on another user's terminal."""
    real = os.open

    def refuse(path, *more, **named):
        if str(path).startswith("/proc/"):
            raise PermissionError(13, "Permission denied")
        return real(path, *more, **named)

    monkeypatch.setattr(os, "open", refuse)


@pytest.fixture(params=["reopened", "polled"])
def either_way(request, monkeypatch):
    if request.param == "polled":
        without_proc(monkeypatch)


@pytest.mark.usefixtures("either_way")
def test_a_full_pipe_drops_lines_and_counts_them(pipe):
    reader, end = pipe
    fill(end)
    writer = LineWriter(Fd(end))
    in_time(lambda: [writer.line("lost") for _ in range(10)])
    assert writer.dropped == 10
    assert not is_nonblocking(end)
    drain(reader)
    writer.line("found")
    assert drain(reader) == b"found\n"
    assert writer.dropped == 10


@pytest.mark.usefixtures("either_way")
def test_lines_stay_whole_when_a_pipe_takes_a_part(pipe):
    reader, end = pipe
    writer = LineWriter(Fd(end))
    long = "x" * 200_000  # more than the pipe holds
    in_time(lambda: [writer.line(line) for line in (long, "lost", "lost")])
    got = b""
    for _ in range(10):
        got += drain(reader)
        writer.line("next")
    got += drain(reader)
    lines = got.decode().splitlines()
    assert lines[0] == long
    assert set(lines[1:]) == {"next"}
    assert writer.dropped == 12 - len(lines[1:])


def test_text_that_utf_8_cannot_hold_is_written_escaped(pipe):
    reader, end = pipe
    writer = LineWriter(Fd(end))
    writer.line("a\udcffb")
    assert drain(reader) == b"a\\udcffb\n"


@pytest.mark.usefixtures("either_way")
def test_a_pipe_whose_reader_has_gone_is_survived(pipe):
    reader, end = pipe
    writer = LineWriter(Fd(end))
    os.close(reader)
    writer.line("lost")
    assert writer.dropped == 1


def test_a_full_disk_is_survived():
    with open("/dev/full", "wb", buffering=0) as full:  # noqa: PTH123 - a device
        writer = configure("info", full)
        get_logger("x").info("lost")
    assert writer.dropped == 1


def test_a_socket_that_nobody_reads_is_survived_and_keeps_its_mode():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        writer = LineWriter(ours)
        in_time(lambda: [writer.line("x" * 1000) for _ in range(2000)])
        assert 0 < writer.dropped < 2000
        assert not is_nonblocking(ours.fileno())
        writer.close()


@pytest.mark.parametrize(
    "stream", [None, io.StringIO(), Fd(-1), Fd(10_000)], ids=["none", "no fd", "closed", "bad"]
)
def test_no_stream_at_all_drops_every_line(stream):
    writer = configure("info", stream)
    get_logger("x").info("lost")
    assert writer.dropped == 1


def test_a_stream_that_was_closed_drops_every_line(tmp_path):
    stream = (tmp_path / "log").open("wb")
    stream.close()
    assert configure("info", stream).dropped == 0


def test_a_file_that_takes_the_number_of_a_closed_stream_gets_no_line(pipe, tmp_path):
    reader, end = pipe
    writer = LineWriter(Fd(end))
    os.close(end)
    database = os.open(tmp_path / "db", os.O_CREAT | os.O_RDWR)
    try:
        assert database == end
        writer.line("for the log")
        assert os.fstat(database).st_size == 0
        assert drain(reader) == b"for the log\n"
    finally:
        writer.close()


def test_a_closed_writer_drops_lines_and_gives_its_descriptor_back(pipe):
    _, end = pipe
    before = len(descriptors())
    writer = LineWriter(Fd(end))
    writer.close()
    writer.close()
    writer.line("lost")
    assert writer.dropped == 1
    assert len(descriptors()) == before


def test_a_shared_file_keeps_the_lines_of_all_its_writers(tmp_path):
    with (tmp_path / "log").open("wb", buffering=0) as stream:
        stream.write(b"theirs\n")
        writer = LineWriter(stream)
        writer.line("ours")
        stream.write(b"theirs again\n")
        writer.line("ours again")
        writer.close()
    assert (tmp_path / "log").read_bytes() == b"theirs\nours\ntheirs again\nours again\n"


def test_threads_do_not_tear_each_others_lines(tmp_path):
    with (tmp_path / "log").open("ab") as stream:
        writer = LineWriter(stream)
        threads = [
            threading.Thread(target=lambda n=n: [writer.line(f"{n}" * 500) for _ in range(200)])
            for n in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        writer.close()
    lines = (tmp_path / "log").read_text(encoding="utf-8").splitlines()
    assert writer.dropped == 0
    assert len(lines) == 1600
    assert {line[:1] * 500 for line in lines} == set(lines)


def test_a_signal_handler_that_logs_inside_a_log_call_does_not_hang(tmp_path):
    with (tmp_path / "log").open("ab") as stream:
        writer = LineWriter(stream)
        writer._write = lambda _data: writer.line("from the handler") or 0
        start = time.monotonic()
        in_time(lambda: writer.line("interrupted"))
        assert time.monotonic() - start < 2
        writer.close()
    assert writer.dropped == 2


# --- the process -------------------------------------------------------------------------------------------------


def python(code, **more):
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        check=False,
        capture_output=True,
        timeout=30,
        text=True,
        **more,
    )


def test_a_process_without_stdout_and_stderr_logs_into_the_void():
    code = (
        "import sys; from clinvoker.logs import *; assert sys.stderr is None;"
        "w = configure('info', sys.stderr); get_logger('x').info('a'); sys.exit(40 + w.dropped)"
    )
    done = subprocess.run(
        ["sh", "-c", 'exec "$0" -c "$1" >&- 2>&-', sys.executable, code], check=False, timeout=30
    )
    assert done.returncode == 41


def test_prettifying_packages_are_not_imported_even_if_installed(tmp_path):
    for name in ("rich", "better_exceptions", "twisted"):
        (tmp_path / f"{name}.py").write_text(f"raise SystemExit('{name} was imported')", encoding="utf-8")
    path = os.pathsep.join([str(tmp_path), *filter(None, sys.path)])
    code = """
        import sys
        from clinvoker.logs import configure, get_logger
        configure("info", sys.stderr)
        try:
            1 / 0
        except ZeroDivisionError:
            get_logger("x").exception("a")
        assert not {"rich", "better_exceptions", "twisted"} & set(sys.modules), "left behind"
        """
    done = python(code, env={**os.environ, "PYTHONPATH": path})
    assert (done.returncode, "division by zero" in done.stderr) == (0, True), done.stderr


def test_agents_do_not_inherit_the_logs_descriptor(pipe, tmp_path):
    _, end = pipe
    before = descriptors()
    ours, theirs = socket.socketpair()
    with ours, theirs, (tmp_path / "log").open("wb") as file:
        writers = [LineWriter(stream) for stream in (Fd(end), ours, file)]
        opened = descriptors() - before
        assert len(opened) == 6
        assert not any(map(os.get_inheritable, opened))
        for writer in writers:
            writer.close()
