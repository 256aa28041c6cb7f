"""What a call may do: completed from its key's defaults, and held to the key's and the daemon's bounds."""

import itertools

import pytest
from msgspec.structs import replace

from actors.errors import Code, Refusal
from actors.messages import Options
from clinvoker.backends.choice import Backend
from clinvoker.callers import Callers
from clinvoker.config import BackendSettings, KeyDefaults, KeySettings, ServerSettings, Settings
from clinvoker.policy import Policy
from tests.test_choice import EVERYTHING, Driver
from tests.test_keys import hashed

BACKENDS = {
    name: Backend(BackendSettings(protocol="acp", command=("x",)), Driver(name, EVERYTHING))
    for name in ("one", "two")
}


def settings_of(server=None, **key):
    return Settings(
        default_backend="one",
        server=replace(ServerSettings(), **(server or {})),
        keys={"ci": KeySettings(hash=hashed("ci-key"), **key)},
    )


def plan(settings, wanted="", caller="ci-key", **options):
    owner = Callers(settings).identify(caller, "").owner if caller else ""
    backend, planned = Policy(settings).plan(BACKENDS, owner, wanted, Options(**options))
    return backend.driver.name, planned


def refused(settings, *wanted, **options):
    with pytest.raises(Refusal) as no:
        plan(settings, *wanted, **options)
    assert no.value.code is Code.FORBIDDEN
    return no.value.param


# Defaults of a key.


def test_what_a_request_does_not_say_its_key_does(tmp_path):
    given = KeyDefaults(
        backend="two", model="m", workdir=str(tmp_path), approval_mode="auto", sandbox_mode="workspace"
    )
    name, options = plan(settings_of(defaults=given))
    assert (name, options.model, options.workdir) == ("two", "m", str(tmp_path))
    assert (options.approval_mode, options.sandbox_mode) == ("auto", "workspace")


def test_what_a_request_says_counts(tmp_path):
    given = KeyDefaults(backend="two", model="m", workdir="/usr", approval_mode="auto", sandbox_mode="full")
    name, options = plan(
        settings_of(defaults=given),
        "two",
        model="own",
        workdir=str(tmp_path),
        approval_mode="none",
        sandbox_mode="read-only",
    )
    assert (name, options.model, options.workdir) == ("two", "own", str(tmp_path))
    assert (options.approval_mode, options.sandbox_mode) == ("none", "read-only")


def test_a_keys_model_is_for_its_backend_alone():
    given = KeyDefaults(backend="two", model="m")
    assert plan(settings_of(defaults=given), "two")[1].model == "m"
    assert plan(settings_of(defaults=given), "one")[1].model == ""


def test_another_caller_gets_nothing_of_it():
    settings = replace(settings_of(defaults=KeyDefaults(backend="two", model="m")), keys_needed=False)
    backend, options = Policy(settings).plan(BACKENDS, "", "", Options())
    assert (backend.driver.name, options) == ("one", Options())


# Bounds of a key.


def test_a_key_is_for_its_backends_alone():
    settings = settings_of(backends=("two",))
    assert refused(settings, "one") == "backend"
    assert refused(settings) == "backend", "the default backend is none of them"
    assert plan(settings, "two")[0] == "two"


def test_a_key_works_in_its_directories_alone(tmp_path):
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    for directory in (inside, outside):
        directory.mkdir()
    (inside / "link").symlink_to(outside)
    settings = settings_of(workdirs=(str(inside),))
    assert plan(settings, workdir=str(inside))[1].workdir == str(inside)
    for path in (outside, inside / "link", inside / "..", tmp_path):
        assert refused(settings, workdir=str(path)) == "workdir"
    assert plan(settings)[1].workdir == "", "an empty directory of its own is nobody's"


def test_the_daemons_directories_bound_a_keys(tmp_path):
    settings = settings_of({"blocked_workdir_prefixes": (str(tmp_path),)}, workdirs=(str(tmp_path),))
    assert refused(settings, workdir=str(tmp_path)) == "workdir"
    given = KeyDefaults(workdir=str(tmp_path))
    assert refused(settings_of({"blocked_workdir_prefixes": (str(tmp_path),)}, defaults=given)) == "workdir"


# Bounds of the daemon.

SANDBOX = ("read-only", "workspace", "default", "full")
APPROVAL = ("none", "default", "always", "auto")


@pytest.mark.parametrize(("most", "asked"), list(itertools.product(SANDBOX, SANDBOX)))
def test_no_request_gets_a_looser_sandbox(most, asked):
    settings = settings_of({"max_sandbox_mode": most})
    if asked != "default" and SANDBOX.index(asked) > SANDBOX.index(most):
        assert refused(settings, sandbox_mode=asked) == "sandbox_mode"
    else:
        got = plan(settings, sandbox_mode=asked)[1].sandbox_mode
        assert SANDBOX.index(got) <= SANDBOX.index(most)
        assert asked in {got, "default"}


@pytest.mark.parametrize(("most", "asked"), list(itertools.product(APPROVAL, APPROVAL)))
def test_no_request_gets_a_looser_approval(most, asked):
    settings = settings_of({"max_approval_mode": most})
    if asked != "default" and APPROVAL.index(asked) > APPROVAL.index(most):
        assert refused(settings, approval_mode=asked) == "approval_mode"
    else:
        got = plan(settings, approval_mode=asked)[1].approval_mode
        assert APPROVAL.index(got) <= APPROVAL.index(most)
        assert asked in {got, "default"}


@pytest.mark.parametrize(
    ("server", "began"),
    [
        ({"max_sandbox_mode": "workspace"}, Options(sandbox_mode="full")),
        ({"max_sandbox_mode": "workspace"}, Options()),
        ({"max_approval_mode": "default"}, Options(approval_mode="auto")),
        ({"max_approval_mode": "none"}, Options()),
    ],
)
def test_a_session_that_began_looser_does_not_go_on(server, began):
    with pytest.raises(Refusal) as no:
        Policy(settings_of(server)).check_session("", "one", began)
    assert no.value.code is Code.FORBIDDEN
    Policy(settings_of()).check_session("", "one", began)


def test_a_session_of_a_backend_that_its_key_has_lost_does_not_go_on():
    settings = settings_of(backends=("two",))
    owner = Callers(settings).identify("ci-key", "").owner
    with pytest.raises(Refusal):
        Policy(settings).check_session(owner, "one", Options())


# The moment of use.


def test_a_directory_that_became_a_link_is_not_worked_in(tmp_path):
    work = tmp_path / "work"
    work.mkdir()
    settings = settings_of({"allowed_workdir_prefixes": (str(tmp_path),)})
    policy, real = Policy(settings), plan(settings, workdir=str(work))[1].workdir
    policy.still_work_in("", real)
    work.rmdir()
    for target in ("/usr", tmp_path):  # forbidden, and allowed but not what was checked
        work.unlink(missing_ok=True)
        work.symlink_to(target)
        with pytest.raises(Refusal) as no:
            policy.still_work_in("", real)
        assert (no.value.code, no.value.param) == (Code.FORBIDDEN, "workdir")
    policy.still_work_in("", "")
