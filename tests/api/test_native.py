"""The rest of /api/v1: what there is, what would be started, and how to stop a run."""

import json
from pathlib import Path

import pytest
import trio

from tests.api.conftest import ABSENT, BACKENDS
from tests.api.support import PROMPT, error_of, eventually, prompt
from tests.support.daemon import Daemon, become_true, scripted
from tests.support.oracle import look

pytestmark = pytest.mark.daemon


async def test_backends_are_listed_in_their_shape(client):
    backends = (await client.get("/api/v1/backends")).json["backends"]
    by_name = {backend["name"]: backend for backend in backends}
    assert by_name.keys() == {"echo", "scripted", "kept", "claude", "codex", "gemini", "other"}
    for backend in backends:
        assert backend.keys() == {
            *("name", "available", "version", "reason", "models", "capabilities", "runners")
        }
        assert backend["runners"].keys() == {"idle", "busy"}
        assert backend["available"] == (backend["reason"] is None)
        assert backend["capabilities"].keys() == {
            *("deltas", "resume", "images", "schema", "system_prompt", "max_turns", "max_tokens", "model"),
            *("approval_modes", "sandbox_modes", "extra", "client_tools"),
        }
    assert by_name["echo"]["available"]
    assert by_name["kept"]["version"] == "7.8.9"
    assert by_name["claude"]["models"] == ["claude-*", "sonnet", "opus", "haiku"]


async def test_what_is_not_installed_says_so(client):
    backends = (await client.get("/api/v1/backends")).json["backends"]
    for name in ("claude", "codex", "gemini", "other"):
        (backend,) = [backend for backend in backends if backend["name"] == name]
        assert (backend["available"], backend["version"]) == (False, None)
        assert f"/absent/{name} is not installed" in backend["reason"]


async def test_a_dry_run_tells_the_command_and_starts_nothing(tmp_path):
    with Daemon(tmp_path, backends={**BACKENDS, "echo": ABSENT, "kept": {**scripted(), **ABSENT}}) as daemon:
        for backend in ("claude", "codex", "gemini", "echo", "scripted", "other"):
            fields = {"system_prompt": "SECRET WORDS"} if backend in {"claude", "codex", "gemini"} else {}
            answer = await prompt(
                daemon.client, prompt="hidden prompt", backend=backend, dry_run=True, **fields
            )
            told = answer.json
            assert answer.status == 200
            assert told.keys() == {"dry_run", "backend", "model", "workdir", "command"}
            assert (told["dry_run"], told["backend"]) == (True, backend)
            assert told["command"][0].startswith("/")
            assert "hidden prompt" not in json.dumps(told)
        assert not daemon.agents()
        assert not list((daemon.home / "tmp").iterdir())
        assert not Path("/tmp/.system-prompt.md").exists()  # noqa: ASYNC240 - where it once stood


async def test_a_dry_run_checks_what_a_run_would(client):
    answer = await prompt(client, prompt="x", backend="gemini", max_turns=3, dry_run=True)
    assert (answer.status, error_of(answer)["param"]) == (400, "max_turns")


async def test_a_cancelled_run_ends_with_an_error_event_and_its_slot_is_free(daemon):
    client = daemon.client
    async with client.stream("one {{wait:20}}") as events:
        await events.until("one")
        cancelled = await client.call("POST", f"/api/v1/runs/{events.run_id}/cancel")
        assert cancelled.json == {"run_id": events.run_id, "cancelled": True}
        with trio.fail_after(3):
            await events.to_end()
    assert (events.code, events.last["content"]["type"]) == ("cancelled", "api_error")
    assert [event["seq"] for event in events.events] == list(range(1, len(events.events) + 1))
    assert (await client.ask("again")).json["output"] == "again"


async def test_a_caller_who_waits_for_the_whole_answer_and_leaves_ends_the_run(daemon):
    before = (await look(daemon)).outcomes()
    with trio.move_on_after(0.3):
        await prompt(daemon.client, prompt="said {{wait:20}}", backend="scripted")

    async def it_is_cancelled():
        return (await look(daemon)).outcomes()["cancelled"] > before["cancelled"]

    await eventually(it_is_cancelled)
    await become_true(lambda: not daemon.strays(), 1)


@pytest.mark.parametrize("path", ["cancel", "permissions/p_1"])
async def test_an_unknown_run_is_a_404(client, path):
    answer = await client.call("POST", f"/api/v1/runs/run_unknown/{path}", {"option": "allow"})
    assert (answer.status, error_of(answer)["code"]) == (404, "not_found")


async def test_a_run_that_is_over_is_no_longer_there_to_cancel(client):
    events = await client.read("x", "echo")
    answer = await client.call("POST", f"/api/v1/runs/{events.run_id}/cancel")
    assert answer.status == 404 or answer.json["cancelled"] is False


async def test_a_permission_that_was_not_asked_is_a_404_and_a_bad_answer_a_400(client):
    async with client.stream("one {{wait:20}}") as events:
        await events.until("one")
        path = f"/api/v1/runs/{events.run_id}/permissions/p_1"
        answer = await client.call("POST", path, {"option": "allow"})
        assert (answer.status, error_of(answer)["code"]) == (404, "not_found")
        for body, param in (({}, "option"), ({"option": 1}, "option"), ({"option": "a", "b": 1}, "b")):
            answer = await client.call("POST", path, body)
            assert (answer.status, error_of(answer)["param"]) == (400, param)


async def test_a_caller_who_leaves_before_the_first_event_leaves_nothing(daemon):
    for _ in range(5):
        with trio.move_on_after(0.05):
            await daemon.client.call("POST", PROMPT, {"prompt": "{{wait:20}}", "backend": "scripted"})
    await become_true(lambda: len(daemon.agents()) <= 3, 5)
    health = (await daemon.client.get("/health")).json
    assert health["status"] == "ok"


async def test_a_websocket_to_an_unknown_path_is_refused_and_harms_nobody(client):
    headers = {
        "upgrade": "websocket",
        "connection": "upgrade",
        "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ==",
        "sec-websocket-version": "13",
        "content-type": None,
    }
    foreign = {"origin": "http://evil.example"}
    for path, more, status in (("/unknown", {}, 404), ("/health", {}, 404), ("/unknown", foreign, 403)):
        answer = await client.call("GET", path, headers={**headers, **more})
        assert answer.status == status, answer
        assert b"Traceback" not in answer.body
    assert (await client.get("/health")).status == 200
