"""A request's options completed, and what an agent cannot do refused by name."""

import pytest
from msgspec.structs import replace

from actors.driver import Capabilities, FlagValue
from actors.errors import Code, Refusal
from actors.messages import Image, Options, Prompt, Tool
from clinvoker.backends.choice import Backend, check, choose, with_defaults
from clinvoker.backends.registry import PROTOCOLS
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
    client_tools=False,
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
    client_tools=True,
)
SETTINGS = BackendSettings(protocol="acp", command=("agent",))
PLAIN = Prompt("x")


class Driver:
    """All of a driver that matters here."""

    def __init__(self, name, capabilities):
        self.name = name
        self.capabilities = capabilities
        self.flag_values = {"--level": FlagValue("low or high", "low|high")}
        self.shared = True


def backend(capabilities, **settings):
    return Backend(replace(SETTINGS, **settings), Driver("agent", capabilities))


ASKED = {
    "model": (Options(model="m"), PLAIN),
    "system_prompt": (Options(system_prompt="s"), PLAIN),
    "max_turns": (Options(max_turns=1), PLAIN),
    "max_tokens": (Options(max_tokens=1), PLAIN),
    "approval_mode": (Options(approval_mode="auto"), PLAIN),
    "sandbox_mode": (Options(sandbox_mode="read-only"), PLAIN),
    "tools": (Options(tools=(Tool("look", "", {}),)), PLAIN),
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


@pytest.mark.parametrize("word", ["--level", "--level=", "--level=LOW", "--level=low\n", "--level=high=low"])
def test_a_value_that_the_agent_does_not_take_is_refused_in_the_form_it_takes(word):
    agent = backend(EVERYTHING, allowed_extra=("--free", "--level"))
    check(agent, Options(extra=("--free", "--level=low")), PLAIN)
    with pytest.raises(Refusal) as refused:
        check(agent, Options(extra=("--level=low", word)), PLAIN)
    assert (refused.value.code, refused.value.param) == (Code.INVALID_REQUEST, "extra[1]")
    assert (
        refused.value.message == "agent takes --level in one word, --level=VALUE, where VALUE is low or high"
    )


def of_protocol(protocol):
    settings = BackendSettings(protocol=protocol, command=(protocol,))
    return Backend(settings, PROTOCOLS[protocol](protocol, settings, {"PATH": "/bin"}))


@pytest.mark.parametrize(
    ("protocol", "taken", "refused"),
    [
        (
            "claude",
            "--effort=xhigh",
            ["--effort", "--effort=", "--effort=extreme", "--effort=low --add-dir=/"],
        ),
        ("claude", "--fallback-model=opus,claude-x[1m]", ["--fallback-model", "--fallback-model=a b"]),
        (
            "claude",
            "--max-budget-usd=0.5",
            ["--max-budget-usd", *(f"--max-budget-usd={n}" for n in ("0", "-1", "x", "0.0"))],
        ),
        (
            "claude",
            "--autocompact=500k",
            ["--autocompact", "--autocompact=50", "--autocompact=99999", "--autocompact=no"],
        ),
        ("claude", "--autocompact=auto", ["--autocompact=automatic"]),
        ("codex", "-c=model_verbosity=low", ["-c", "-c=", "-c=sandbox_mode=full", "-c=model_verbosity=a b"]),
        ("codex", "--config=model_reasoning_effort='high'", ["--config", "--config=notify=x"]),
    ],
)
def test_what_ends_an_agent_or_widens_its_leave_is_refused_before_it_starts(protocol, taken, refused):
    agent = of_protocol(protocol)
    check(agent, Options(extra=(taken,)), PLAIN)
    for word in refused:
        with pytest.raises(Refusal, match="where VALUE is") as refusal:
            check(agent, Options(extra=(taken, word)), PLAIN)
        assert (refusal.value.code, refusal.value.param) == (Code.INVALID_REQUEST, "extra[1]")


def test_a_setting_in_two_words_is_refused_at_the_first_with_the_form_to_use():
    with pytest.raises(Refusal, match="-c in one word, -c=VALUE, where VALUE is key=word") as refusal:
        check(of_protocol("codex"), Options(extra=("-c", "model_verbosity=low")), PLAIN)
    assert refusal.value.param == "extra[0]"


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
