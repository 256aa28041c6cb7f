"""A request's options completed, and what an agent cannot do refused by name."""

import pytest
from msgspec.structs import replace

from actors.driver import Capabilities
from actors.errors import Code, Refusal
from actors.messages import Image, Options, Prompt
from clinvoker.backends.choice import Backend, check, choose, with_defaults
from clinvoker.config import BackendSettings

NOTHING = Capabilities(
    deltas=False,
    resume=False,
    images=False,
    schema=False,
    system_prompt=False,
    max_turns=False,
    max_tokens=False,
    model=False,
    approval_modes=("default",),
    sandbox_modes=("default",),
    extra=(),
)
EVERYTHING = Capabilities(
    deltas=True,
    resume=True,
    images=True,
    schema=True,
    system_prompt=True,
    max_turns=True,
    max_tokens=True,
    model=True,
    approval_modes=("default", "auto", "none", "always"),
    sandbox_modes=("default", "read-only", "workspace", "full"),
    extra=("--effort", "-c"),
)
SETTINGS = BackendSettings(protocol="acp", command=("agent",))
PLAIN = Prompt("x")


class Driver:
    """All of a driver that matters here."""

    def __init__(self, name, capabilities):
        self.name = name
        self.capabilities = capabilities


def backend(capabilities, **settings):
    return Backend(replace(SETTINGS, **settings), Driver("agent", capabilities))


ASKED = {
    "model": (Options(model="m"), PLAIN),
    "system_prompt": (Options(system_prompt="s"), PLAIN),
    "max_turns": (Options(max_turns=1), PLAIN),
    "max_tokens": (Options(max_tokens=1), PLAIN),
    "approval_mode": (Options(approval_mode="auto"), PLAIN),
    "sandbox_mode": (Options(sandbox_mode="read-only"), PLAIN),
    "images": (Options(), Prompt("x", images=(Image("image/png", "AA=="),))),
    "schema": (Options(), Prompt("x", schema={})),
}


@pytest.mark.parametrize("field", ASKED)
def test_what_the_agent_cannot_do_is_refused_by_name(field):
    with pytest.raises(Refusal) as refused:
        check(backend(NOTHING), *ASKED[field])
    assert (refused.value.code, refused.value.param) == (Code.UNSUPPORTED, field)
    assert refused.value.message == f"agent cannot honour {field}"
    check(backend(EVERYTHING), *ASKED[field])


def test_nothing_asked_is_nothing_refused():
    check(backend(NOTHING), Options(), PLAIN)
    check(backend(NOTHING), Options(workdir="/tmp", ephemeral=True), PLAIN)


@pytest.mark.parametrize("flag", ["--effort", "--effort=high", "-c=a=b", "--effort="])
def test_a_listed_flag_passes_with_any_value(flag):
    check(backend(EVERYTHING), Options(extra=(flag,)), PLAIN)


@pytest.mark.parametrize(
    "flag", ["--other", "--effor", "--efforts=1", " --effort", "-", "", "x", "--effort\0", "=--effort"]
)
def test_any_other_flag_is_refused_by_its_place_and_the_list_is_told(flag):
    with pytest.raises(Refusal) as refused:
        check(backend(EVERYTHING), Options(extra=("--effort=low", flag)), PLAIN)
    assert (refused.value.code, refused.value.param) == (Code.INVALID_REQUEST, "extra[1]")
    assert refused.value.message.endswith("allowed: --effort, -c")


def test_the_users_own_list_of_flags_counts_and_may_be_empty():
    check(backend(NOTHING, allowed_extra=("--mine",)), Options(extra=("--mine=1",)), PLAIN)
    for allowed in ((), ("--mine",)):
        with pytest.raises(Refusal, match="allowed: "):
            check(backend(EVERYTHING, allowed_extra=allowed), Options(extra=("--effort",)), PLAIN)


def test_what_the_request_leaves_open_is_as_configured():
    settings = replace(SETTINGS, model="m", system_prompt="s", approval_mode="none", sandbox_mode="read-only")
    assert with_defaults(Options(), settings) == Options(
        model="m", system_prompt="s", approval_mode="none", sandbox_mode="read-only"
    )


def test_what_the_request_says_counts():
    settings = replace(SETTINGS, model="m", system_prompt="s", approval_mode="none", sandbox_mode="read-only")
    asked = Options(
        workdir="/w",
        model="n",
        system_prompt="t",
        approval_mode="auto",
        sandbox_mode="full",
        max_turns=1,
        max_tokens=2,
        extra=("--a",),
        ephemeral=True,
    )
    assert with_defaults(asked, settings) == asked


def test_a_backend_is_chosen_by_its_exact_name():
    backends = {"one": backend(NOTHING), "two": backend(EVERYTHING)}
    assert choose(backends, "two") is backends["two"]
    for name in ("", "One", "on", "three\n"):
        with pytest.raises(Refusal) as refused:
            choose(backends, name)
        assert (refused.value.code, refused.value.param) == (Code.INVALID_REQUEST, "backend")
        assert refused.value.message == f"backend {name!r} is not configured; there are: one, two"
