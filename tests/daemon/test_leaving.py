"""When the caller leaves, the run is cancelled, or the daemon ends: the model call and every tool end with it."""

import signal

import pytest
import trio

from tests.daemon.support import FREE, REAL, backends, shell, sleepers
from tests.support.daemon import Daemon, become_true

WITHIN = 3.0
"""Seconds in which everything is over."""


def serial(request, offset):
    """A number of seconds that no other test sleeps for, so that its sleeper can be told."""
    return 6000 + 100 * offset + REAL.index(request)


@pytest.mark.parametrize("backend", REAL)
async def test_a_caller_who_leaves_ends_the_model_call_and_frees_the_slot(scene, backend):
    prompt = f"[[long:500]] [[slow:50]] left by the caller of {backend}"
    async with scene.client.stream(prompt, backend) as events:
        await events.until("w2")
        events.reset()
    with trio.fail_after(WITHIN):
        await scene.model.status(prompt, "client_gone", WITHIN)
    with trio.fail_after(WITHIN):
        assert (await scene.client.ask("[[say:next]]", backend)).json["output"] == "next"


@pytest.mark.parametrize("backend", REAL)
async def test_a_cancelled_run_ends_the_model_call_and_frees_the_slot(scene, backend):
    prompt = f"[[long:500]] [[slow:50]] cancelled for {backend}"
    async with scene.client.stream(prompt, backend) as events:
        await events.until("w2")
        answer = await scene.client.call("POST", f"/api/v1/runs/{events.run_id}/cancel")
        assert answer.json["cancelled"] is True
        with trio.fail_after(WITHIN):
            await events.to_end()
    assert events.code == "cancelled"
    await scene.model.status(prompt, "client_gone", WITHIN)
    with trio.fail_after(WITHIN):
        assert (await scene.client.ask("[[say:next]]", backend)).json["output"] == "next"


@pytest.mark.parametrize("backend", REAL)
async def test_a_conversation_goes_on_after_a_turn_that_was_cancelled(scene, backend):
    first = await scene.client.ask("remember vermilion", backend, ephemeral=False)
    body = {"session_id": first.json["session_id"], "stream": True}
    async with scene.client.open(
        "POST", "/api/v1/prompt", {"prompt": f"[[long:500]] [[slow:50]] {backend} cut", **body}
    ) as incoming:
        assert incoming.status == 200
        await incoming.chunk()
        run = incoming.headers["x-clinvoker-run"]
        await scene.client.call("POST", f"/api/v1/runs/{run}/cancel")
    body = {"prompt": "[[history]]", "session_id": first.json["session_id"]}
    with trio.fail_after(2 * WITHIN):
        while (answer := await scene.client.call("POST", "/api/v1/prompt", body)).status == 409:
            await trio.sleep(0.05)
    assert "vermilion" in answer.json["output"], answer


@pytest.mark.parametrize("backend", REAL)
async def test_a_tool_ends_with_the_caller_who_left(scene, backend):
    seconds = serial(backend, 1)
    prompt = shell(backend, f"sleep {seconds}")
    async with scene.client.stream(prompt, backend, workdir=str(scene.workdir), **FREE[backend]) as events:
        await become_true(lambda: sleepers(scene.daemon, seconds), 15)
        events.reset()
    await become_true(lambda: not sleepers(scene.daemon, seconds), WITHIN)


@pytest.mark.parametrize("backend", REAL)
async def test_a_tool_ends_with_the_run_that_is_cancelled(scene, backend):
    seconds = serial(backend, 2)
    prompt = shell(backend, f"sleep {seconds}")
    async with scene.client.stream(prompt, backend, workdir=str(scene.workdir), **FREE[backend]) as events:
        await become_true(lambda: sleepers(scene.daemon, seconds), 15)
        await scene.client.call("POST", f"/api/v1/runs/{events.run_id}/cancel")
        with trio.fail_after(WITHIN):
            await events.to_end()
    assert events.code == "cancelled"
    await become_true(lambda: not sleepers(scene.daemon, seconds), WITHIN)


@pytest.mark.parametrize("backend", REAL)
async def test_a_tool_in_a_session_of_its_own_that_a_finished_turn_left_is_gone(scene, backend):
    seconds = serial(backend, 3)
    prompt = shell(backend, f"setsid sleep {seconds} >/dev/null 2>&1 & echo started")
    answer = await scene.client.ask(prompt, backend, workdir=str(scene.workdir), **FREE[backend])
    assert answer.json["exit_code"] == 0, answer
    await become_true(lambda: not sleepers(scene.daemon, seconds), WITHIN)


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGKILL])
async def test_every_tool_ends_with_the_daemon(model, tmp_path, signum):
    settings = backends(model.url, tmp_path / "homes", *REAL)
    with Daemon(tmp_path / "daemon", backends=settings, shutdown_grace_secs=5) as daemon:
        streams = []
        async with trio.open_nursery() as nursery:
            for backend in REAL:

                async def run(backend=backend):
                    prompt = shell(backend, f"setsid --wait sleep {serial(backend, 4)}")
                    async with daemon.client.stream(prompt, backend, **FREE[backend]) as events:
                        streams.append(events)
                        await events.to_end()

                nursery.start_soon(run)
            await become_true(lambda: all(sleepers(daemon, serial(name, 4)) for name in REAL), 30)
            began = trio.current_time()
            daemon.signal(signum)
            code = await daemon.wait_ended(10)
        assert code == (0 if signum == signal.SIGTERM else -signal.SIGKILL)
        assert trio.current_time() - began < 6
        await become_true(lambda: not daemon.marked(), WITHIN)
        if signum == signal.SIGTERM:
            assert [events.code for events in streams] == ["server_draining"] * len(REAL)
