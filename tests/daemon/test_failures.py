"""What goes wrong upstream is a typed error, soon; and no text is told twice."""

import socket

import pytest
import trio

from tests.daemon.support import REAL, Model, backends, shell
from tests.support.daemon import Daemon

SOON = 30
"""Seconds: the agents' own retries, bounded, on two busy processors."""

LOUD = ("claude", "codex", "gemini")
"""Those that tell a failure; opencode 1.18.33 tries most things again without an end."""

FAILURES = {
    "[[err:401]]": "backend_not_logged_in",
    "[[err:429]]": "backend_rate_limited",
    "[[err:503]]": "backend_overloaded",
    "[[err:529]]": "backend_overloaded",
    "[[err:500]]": "backend_error",
    "[[err:404]]": "model_not_found",
    "[[errtype:context]]": "context_length_exceeded",
    "[[refuse]]": "refused",
}
UNTOLD = {
    # opencode 1.18.33 retries these without telling, and without an end.
    "opencode": {"[[err:429]]", "[[err:503]]", "[[err:529]]", "[[err:500]]"},
    # gemini 0.61.0 calls this `end_turn`.
    "gemini": {"[[refuse]]"},
}


@pytest.mark.parametrize("backend", REAL)
async def test_every_failure_of_the_model_has_its_code_soon(scene, backend):
    expected = {mark: code for mark, code in FAILURES.items() if mark not in UNTOLD.get(backend, ())}
    answers = {}

    async def ask(mark):
        answers[mark] = await scene.client.ask(f"{mark} for {backend}", backend)

    with trio.fail_after(SOON):
        async with trio.open_nursery() as nursery:
            for mark in expected:
                nursery.start_soon(ask, mark)
    assert {mark: answer.code for mark, answer in answers.items()} == expected
    for answer in answers.values():
        assert answer.status != 200 or answer.json["exit_code"] == 1
        assert "Traceback" not in answer.json["error"]["message"]


@pytest.mark.parametrize("backend", REAL)
async def test_on_a_stream_a_failure_is_one_error_event(scene, backend):
    with trio.fail_after(SOON):
        events = await scene.client.read(f"[[err:401]] streamed for {backend}", backend)
    assert events.code == "backend_not_logged_in"
    assert events.last["content"]["type"] == "backend_error"
    ends = [event["type"] for event in events.events if event["type"] in {"complete", "error"}]
    assert ends == ["error"]


async def test_the_wait_is_told_where_the_agent_tells_it(scene):
    # claude 2.1.330 tells it up to a minute; the others never do.
    with trio.fail_after(SOON):
        events = await scene.client.read("[[err:429]][[retryafter:50]] streamed", "claude")
        answer = await scene.client.ask("[[err:429]][[retryafter:50]] whole", "claude")
    assert events.code == answer.code == "backend_rate_limited"
    assert 50 <= events.last["content"]["retry_after"] < 65
    assert 50 <= answer.json["error"]["retry_after"] < 65


@pytest.fixture(scope="module")
def impatient(model, tmp_path_factory):
    """A daemon that waits three seconds for an agent's word."""
    home = tmp_path_factory.mktemp("impatient")
    settings = backends(model.url, home / "homes", "opencode")
    with Daemon(
        home / "daemon", backends=settings, first_event_timeout_secs=3, idle_event_timeout_secs=3
    ) as daemon:
        yield daemon


async def test_an_agent_that_retries_without_end_is_timed_out(impatient, model):
    prompt = "[[err:503]] impatient"
    with trio.fail_after(SOON):
        answer = await impatient.client.ask(prompt, "opencode")
    assert answer.code == "timeout", answer
    calls = len(model.of(prompt))
    assert (await impatient.client.ask("[[say:fine]]", "opencode")).json["output"] == "fine"
    assert len(model.of(prompt)) <= calls + 1


@pytest.mark.parametrize("backend", REAL)
@pytest.mark.parametrize("mark", ["[[mid:cut]]", "[[mid:erroronce]]"])
async def test_a_stream_that_is_cut_once_says_nothing_twice(scene, backend, mark):
    prompt = f"one two three four {backend} {mark}"
    with trio.fail_after(SOON):
        events = await scene.client.read(prompt, backend)
    whole = f"echo: {prompt}"
    if events.last["type"] == "complete":
        assert events.text == events.last["content"]["output"] == whole
    else:
        assert whole.startswith(events.text)


@pytest.mark.parametrize("backend", LOUD)
async def test_a_stream_that_is_always_cut_ends_with_an_error(scene, backend):
    prompt = f"one two three four {backend} [[mid:cutalways]]"
    with trio.fail_after(SOON):
        events = await scene.client.read(prompt, backend)
    assert events.last["type"] == "error", events
    assert f"echo: {prompt}".startswith(events.text)


@pytest.mark.parametrize("backend", REAL)
async def test_after_a_failure_the_next_prompt_is_answered(scene, backend):
    await scene.client.ask(f"[[err:401]] once for {backend}", backend)
    assert (await scene.client.ask("[[say:fine]]", backend)).json["output"] == "fine"


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """A daemon whose agents' model server is not there."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    home = tmp_path_factory.mktemp("alone")
    settings = backends(url, home / "homes", *LOUD)
    with Daemon(home / "daemon", backends=settings) as daemon:
        yield daemon


@pytest.mark.parametrize("backend", LOUD)
async def test_a_model_server_that_is_not_there_is_an_error_soon(alone, backend):
    with trio.fail_after(30):
        answer = await alone.client.ask("x", backend)
    assert answer.code == "backend_unreachable", answer


async def test_a_model_server_that_dies_in_mid_answer_ends_the_turn(tmp_path):
    model = Model(tmp_path)
    try:
        with Daemon(
            tmp_path / "daemon", backends=backends(model.url, tmp_path / "homes", "claude")
        ) as daemon:
            async with daemon.client.stream("[[long:200]] [[slow:50]]", "claude") as events:
                await events.until("w3")
                model.close()
                with trio.fail_after(SOON):
                    await events.to_end()
            assert events.last["type"] == "error", events
            assert " ".join(f"w{number}" for number in range(200)).startswith(events.text)
    finally:
        model.close()


@pytest.fixture(scope="module")
def keyless(model, tmp_path_factory):
    """A daemon whose agents have never been logged in, beside some that are not there at all."""
    home = tmp_path_factory.mktemp("keyless")
    settings = backends(model.url, home / "homes", *LOUD)
    for backend, key in (
        ("claude", "ANTHROPIC_API_KEY"),
        ("codex", "FAKE_KEY"),
        ("gemini", "GEMINI_API_KEY"),
    ):
        del settings[backend]["env"][key]
    settings["absent"] = {"protocol": "acp", "command": ["no-such-agent", "acp"]}
    with Daemon(home / "daemon", backends=settings) as daemon:
        yield daemon


@pytest.mark.parametrize("backend", LOUD)
async def test_an_agent_that_is_not_logged_in_says_so(keyless, backend):
    with trio.fail_after(SOON):
        answer = await keyless.client.ask("x", backend)
    assert answer.code == "backend_not_logged_in", answer
    described = (await keyless.client.get("/api/v1/backends")).json["backends"]
    (found,) = [each for each in described if each["name"] == backend]
    assert (found["available"], bool(found["reason"])) == (False, True), found


async def test_an_agent_that_is_not_installed_says_so(keyless):
    answer = await keyless.client.ask("x", "absent")
    assert (answer.status, answer.code) == (503, "backend_not_installed")
    described = (await keyless.client.get("/api/v1/backends")).json["backends"]
    (found,) = [each for each in described if each["name"] == "absent"]
    assert (found["available"], found["version"]) == (False, None)
    assert found["reason"] == "no-such-agent is not installed, or not on the PATH"


async def test_a_tool_that_fails_is_a_result_with_an_error_and_the_turn_goes_on(scene):
    events = await scene.client.read(shell("claude", "exit 3"), "claude", approval_mode="auto")
    results = [event["content"] for event in events.events if event["type"] == "tool_result"]
    assert [result["is_error"] for result in results] == [True]
    assert events.last["type"] == "complete"
