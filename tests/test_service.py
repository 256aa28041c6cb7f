"""What every surface calls to start a run: how a call becomes a backend and its options."""

import pytest
from msgspec.structs import replace

from actors.errors import Code, Refusal
from actors.messages import Options, Prompt
from clinvoker.backends.choice import Backend
from clinvoker.config import BackendSettings, ServerSettings, Settings
from clinvoker.service import PromptCall, Service
from clinvoker.store import SessionRecord
from clinvoker.turns import Turns
from tests.test_choice import EVERYTHING, NOTHING, Driver


class Shelf:
    """A store that has this one session, and no run."""

    def __init__(self, session):
        self._session = session

    async def session(self, _id, _owner):
        return self._session

    async def run(self, _id, _owner):
        return None


class Nobody:
    """The address of a supervisor without children."""

    async def ask(self, _):
        return None


def make_backend(name, capabilities, **settings):
    return Backend(BackendSettings(protocol="acp", command=("x",), **settings), Driver(name, capabilities))


BACKENDS = {
    "able": make_backend("able", EVERYTHING, model="own-model", sandbox_mode="read-only"),
    "plain": make_backend("plain", NOTHING),
}


def make_service(session=None, **server):
    settings = Settings(default_backend="able", server=replace(ServerSettings(), **server), backends={})
    store = Shelf(session)
    turns = Turns(settings, BACKENDS, store=store, limiter=None, pools={}, sessions=Nobody())
    return Service(settings, turns, store=store, runs=Nobody(), observe=lambda _: None)


def a_session(backend, options):
    return SessionRecord(id="ses_1", owner="", backend=backend, created=0, updated=0, options=options)


def call(backend="", session_id="", schema=None, **options):
    return PromptCall(Prompt("x", schema=schema), Options(**options), backend, session_id)


async def test_a_call_that_names_no_backend_goes_to_the_default_one():
    backend, options = await make_service().plan(call())
    assert backend is BACKENDS["able"]
    assert (options.model, options.sandbox_mode) == ("own-model", "read-only")


async def test_a_call_goes_to_the_backend_it_names():
    backend, options = await make_service().plan(call("plain"))
    assert (backend, options) == (BACKENDS["plain"], Options())


@pytest.mark.parametrize(
    ("asked", "code", "param"),
    [
        (call("unknown"), Code.INVALID_REQUEST, "backend"),
        (call("plain", model="m"), Code.UNSUPPORTED, "model"),
        (call("plain", schema={}), Code.UNSUPPORTED, "schema"),
        (call("plain", extra=("--x",)), Code.INVALID_REQUEST, "extra[0]"),
        (call("plain", workdir="relative"), Code.INVALID_REQUEST, "workdir"),
        (call("plain", workdir="/proc/self"), Code.FORBIDDEN, "workdir"),
        (call(session_id="unknown"), Code.NOT_FOUND, "session_id"),
    ],
)
async def test_a_bad_call_is_refused_by_name_before_anything_has_begun(asked, code, param):
    service = make_service(blocked_workdir_prefixes=("/proc",))
    for attempt in (service.plan, service.start):
        with pytest.raises(Refusal) as refused:
            await attempt(asked)
        assert (refused.value.code, refused.value.param) == (code, param)


async def test_a_directory_is_resolved(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path)
    _, options = await make_service().plan(call("plain", workdir=str(tmp_path / "link")))
    assert options.workdir == str(tmp_path)


async def test_the_lists_of_directories_can_change_while_the_daemon_runs(tmp_path):
    service = make_service()
    asked = call("plain", workdir=str(tmp_path))
    await service.plan(asked)
    service.reconfigure(make_service(allowed_workdir_prefixes=("/usr",)).settings)
    with pytest.raises(Refusal):
        await service.plan(asked)


async def test_a_session_keeps_its_backend_and_its_options():
    options = Options(max_turns=3)
    session = a_session("able", options)
    service = make_service(session)
    assert await service.plan(call(session_id="ses_1")) == (BACKENDS["able"], options)
    assert await service.plan(call("able", session_id="ses_1")) == (BACKENDS["able"], options)
    with pytest.raises(Refusal) as refused:
        await service.plan(call("plain", session_id="ses_1"))
    assert refused.value.param == "backend"


async def test_what_a_sessions_backend_cannot_do_in_a_turn_is_refused():
    service = make_service(a_session("plain", Options()))
    with pytest.raises(Refusal) as refused:
        await service.plan(call(session_id="ses_1", schema={}))
    assert refused.value.param == "schema"


async def test_a_run_that_is_not_there_is_not_found():
    with pytest.raises(Refusal) as refused:
        await make_service().follow("run_1", "")
    assert refused.value.code is Code.NOT_FOUND
