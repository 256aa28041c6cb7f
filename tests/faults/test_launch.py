"""F15 to F18: an agent that cannot be started, or not by this file any more; what its errors mean."""

import os
import resource
import shutil
from pathlib import Path

import pytest
import trio

from tests.support.daemon import AGENT, PYTHON, scripted

pytestmark = pytest.mark.daemon


def _at(name):
    """A program that the module's fixtures make, and whose place they know."""
    return {**scripted(), "command": [f"BROKEN/{name}"]}


KINDS = {
    "missing": ("backend_not_installed", "is not installed"),
    "forbidden": ("backend_unavailable", "Permission denied"),
    "directory": ("backend_unavailable", "Permission denied"),
    "interpreter": ("backend_unavailable", "its interpreter is missing"),
    "foreign": ("backend_unavailable", "Exec format error"),
    "busy": ("backend_unavailable", "Text file busy"),
    "empty": ("backend_unavailable", "Exec format error"),
}
BACKENDS = {
    **{name: _at(name) for name in KINDS},
    "breaker": scripted("--exit", "1"),
    "mends": _at("mends"),
    "updated": _at("updated"),
    "needs-login": scripted(),
    "limited": scripted("--refuse", "429", "Slow down. Suggested retry after 7s."),
}


@pytest.fixture(scope="module")
def programs(tmp_path_factory):
    """Programs that cannot be started, each for another reason."""
    place = tmp_path_factory.mktemp("programs")
    for name, content in {
        "forbidden": b"#!/bin/sh\n",
        "interpreter": b"#!/no/such/shell\n",
        "empty": b"\x7f",
    }.items():
        (place / name).write_bytes(content)
        (place / name).chmod(0o755)
    (place / "forbidden").chmod(0o644)
    (place / "directory").mkdir()
    elf = bytearray(Path("/bin/true").read_bytes())
    elf[18:20] = (
        b"\xf3\x00" if elf[18:20] != b"\xf3\x00" else b"\x3e\x00"
    )  # e_machine: RISC-V, or x86-64 there
    (place / "foreign").write_bytes(elf)
    shutil.copy("/bin/true", place / "busy")
    (place / "foreign").chmod(0o755)
    install(place / "updated", "1.0.0")
    with (place / "busy").open("r+b"):
        yield place


@pytest.fixture(scope="module", autouse=True)
def commands(programs, request):
    """Point the module's backends to their programs, before the daemon is configured."""
    for backend in request.module.BACKENDS.values():
        backend["command"] = [part.replace("BROKEN", str(programs)) for part in backend["command"]]


def install(path, version):
    """Put a program into its place at once, as updates do."""
    fresh = path.with_suffix(".new")
    fresh.write_text(f'#!/bin/sh\nexec {PYTHON} -S -E {AGENT} --version {version} "$@"\n')
    fresh.chmod(0o755)
    fresh.rename(path)


async def described(daemon, name):
    backends = (await daemon.client.get("/api/v1/backends")).json["backends"]
    return next(backend for backend in backends if backend["name"] == name)


@pytest.mark.parametrize("kind", KINDS)
async def test_f15_a_program_that_cannot_be_started_is_a_503_that_says_why(daemon, kind):
    code, words = KINDS[kind]
    answer = await daemon.client.ask("hello", kind)
    assert (answer.status, answer.code) == (503, code), answer
    assert words in answer.json["error"]["message"]
    backend = await described(daemon, kind)
    assert not backend["available"]
    assert backend["reason"]


async def test_f15_after_failures_in_a_row_it_is_not_tried_for_a_while(daemon):
    for _ in range(3):
        answer = await daemon.client.ask("hello", "breaker")
        assert answer.status == 503
    before = daemon.log.count('"breaker"')
    answer = await daemon.client.ask("hello", "breaker")
    assert answer.status == 503
    assert int(answer.headers["retry-after"]) >= 1
    assert daemon.log.count('"agent gone","logger_name":"clinvoker","backend":"breaker"') <= 3 + before


async def test_f15_a_program_that_is_installed_meanwhile_is_found(daemon, programs):
    assert (await daemon.client.ask("hello", "mends")).code == "backend_not_installed"
    install(programs / "mends", "1.0.0")
    answer = await daemon.client.ask("hello", "mends")
    assert answer.json["output"] == "hello"
    assert (await described(daemon, "mends"))["available"]


async def test_f16_a_run_goes_on_when_its_program_is_replaced_and_the_next_is_of_the_new_one(
    daemon, programs
):
    assert (await described(daemon, "updated"))["version"] == "1.0.0"
    async with daemon.client.stream("before{{wait:0.3}} after", "updated") as events:
        await events.until("before")
        install(programs / "updated", "2.0.0")
        assert (await events.to_end()).text == "before after"
    assert (await daemon.client.ask("next", "updated")).json["output"] == "next"
    assert (await described(daemon, "updated"))["version"] == "2.0.0"


async def test_f17_a_login_that_has_expired_is_told_as_the_backends_state(daemon):
    answer = await daemon.client.ask("{{error:-32000,please log in again}}", "needs-login")
    assert (answer.status, answer.code) == (200, "backend_not_logged_in")
    backend = await described(daemon, "needs-login")
    assert (backend["available"], backend["reason"]) == (False, "please log in again")
    await daemon.client.ask("logged in now", "needs-login")
    assert (await described(daemon, "needs-login"))["available"]


@pytest.mark.parametrize(
    ("error", "code"),
    [
        ("429,Too many requests. Suggested retry after 7s.", "backend_rate_limited"),
        ("-32603,You have exhausted your quota", "backend_rate_limited"),
        ("503,The model is overloaded", "backend_overloaded"),
        ("-32603,prompt is too long", "context_length_exceeded"),
        ("-32603,something else", "backend_error"),
    ],
)
async def test_f17_what_the_models_api_said_becomes_a_typed_error(daemon, error, code):
    events = await daemon.client.read(f"{{{{error:{error}}}}}")
    assert events.code == code
    assert events.last["content"].get("retry_after") == (7.0 if "7s" in error else None)


async def test_f17_a_rate_limit_before_the_turn_has_begun_is_a_429_with_the_wait(daemon):
    answer = await daemon.client.ask("hello", "limited")
    assert (answer.status, answer.code) == (429, "backend_rate_limited")
    assert answer.headers["retry-after"] == "7"


async def test_f18_without_descriptors_a_start_is_refused_and_nothing_leaks(daemon):
    client = daemon.client
    body = {"prompt": "hello", "backend": "updated", "ephemeral": True}
    limits = resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE)
    highest = max(int(fd) for fd in os.listdir(f"/proc/{daemon.pid}/fd"))  # noqa: PTH208 - names, not paths
    try:
        # The connection takes one, so that none is left for a pipe.
        resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE, (highest + 2, limits[1]))
        with trio.fail_after(5):
            answer = await client.call("POST", "/api/v1/prompt", body)
    finally:
        resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE, limits)
    client.answers.append(answer)
    assert (answer.status, answer.code) == (503, "backend_unavailable")
    assert "Too many open files" in answer.json["error"]["message"]
    assert (await client.ask("again", "updated")).json["output"] == "again"


async def test_f18_without_descriptors_nobody_is_let_in_and_then_everybody(daemon):
    limits = resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE)
    answers = []

    async def ask():
        answers.append(await daemon.client.ask("late"))

    async with trio.open_nursery() as nursery:
        try:
            resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE, (daemon.fds() - 2, limits[1]))
            for _ in range(10):
                nursery.start_soon(ask)
            await trio.sleep(0.3)
            assert daemon.process.poll() is None
        finally:
            resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE, limits)
    assert [answer.json["output"] for answer in answers] == ["late"] * 10
