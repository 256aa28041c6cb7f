"""A session goes on: on the live agent, after the agent was killed, after the daemon was; shown by what the model got."""

import json
import os
import signal
from pathlib import Path

import pytest
import trio

from tests.daemon.support import backends
from tests.support.daemon import Daemon, become_true

AGENTS = ("claude", "codex", "gemini")
PROMPT = "/api/v1/prompt"
TOLD = "What follows is the conversation so far."
NEXT = 40.0
"""Seconds for a turn on an agent that must be started first, on a machine that is shared."""


@pytest.fixture(scope="module")
def running(model, tmp_path_factory):
    """A daemon that may be killed."""
    home = tmp_path_factory.mktemp("continuity")
    settings = backends(model.url, home / "homes", *AGENTS)
    with Daemon(home / "daemon", backends=settings) as daemon:
        yield daemon


@pytest.fixture
def ask(running):
    async def ask(prompt, session="", **fields):
        where = {"session_id": session} if session else {}
        with trio.fail_after(NEXT):
            answer = await running.client.call("POST", PROMPT, {"prompt": prompt, **where, **fields})
        assert answer.status == 200, answer
        assert "error" not in answer.json, answer
        return answer.json

    return ask


def received(model, mark):
    """What the model got for the prompt that holds `mark`, and how often the history was told in it."""
    last = model.of(mark)[-1]
    body = json.dumps(last["body"])
    return body, body.count(TOLD)


async def kill_agents(daemon):
    """Kill all agents, and let the daemon notice."""
    agents = daemon.agents()
    for agent in agents:
        os.kill(agent.pid, signal.SIGKILL)
    await become_true(lambda: not any(_command(agent.pid) for agent in agents), 3)
    await trio.sleep(0.1)


async def kill_daemon(daemon):
    daemon.process.kill()
    daemon.ended()
    daemon.start()
    daemon.wait_listening()


# Some agents find a conversation only from the directory that it was held in.
@pytest.mark.parametrize(
    ("backend", "where"), [*((agent, "anywhere") for agent in AGENTS), ("claude", "in a place")]
)
async def test_a_second_turn_sees_the_first_and_so_it_goes_on_after_every_kill(
    running, ask, model, backend, where, tmp_path
):
    place = {} if where == "anywhere" else {"workdir": str(tmp_path)}
    words = ["vermilion", "cobalt", "ochre", "umber", "sienna"]
    marks = [f"{word} of {backend} {where}" for word in words]
    first = await ask(f"remember {marks[0]} [[say:yes]]", backend=backend, **place)
    session = first["session_id"]
    told = []
    for count, (mark, fault) in enumerate(
        [(marks[1], None), (marks[2], kill_agents), (marks[3], kill_daemon), (marks[4], kill_agents)], 1
    ):
        if fault is not None:
            await fault(running)
        answer = await ask(f"remember {mark} [[say:yes]]", session)
        assert answer["session_id"] == session
        body, times = received(model, mark)
        told.append(times)
        for earlier in marks[:count]:
            assert earlier in body, (backend, fault, earlier)
    print(f"{backend} {where}: history told anew {told}")  # noqa: T201 - for people
    assert told[0] == 0, "a live agent remembers by itself"
    if backend in {"claude", "codex"}:
        assert told == [0, 0, 0, 0], "and so does one that resumes"
    assert max(told) <= 1, "one that does not is told everything, once"
    answer = await ask("[[history]]", session)
    assert all(mark in answer["output"] for mark in marks)
    stored = (await running.client.get(f"/api/v1/sessions/{session}")).json
    assert [turn["number"] for turn in stored["turns"]] == [1, 2, 3, 4, 5, 6]
    assert all(turn["ended"] and turn["error"] is None for turn in stored["turns"])


@pytest.mark.parametrize("backend", AGENTS)
async def test_a_fork_knows_what_was_said_and_the_original_knows_nothing_of_it(running, ask, model, backend):
    session = (await ask(f"remember saffron {backend} [[say:yes]]", backend=backend))["session_id"]
    fork = (await running.client.call("POST", f"/api/v1/sessions/{session}/fork")).json["id"]
    await ask(f"remember teal {backend} [[say:yes]]", fork)
    body, times = received(model, f"teal {backend}")
    assert f"saffron {backend}" in body
    assert times == 1
    await ask(f"remember puce {backend} [[say:yes]]", session)
    body, _ = received(model, f"puce {backend}")
    assert f"saffron {backend}" in body
    assert f"teal {backend}" not in body
    await ask(f"remember mauve {backend} [[say:yes]]", fork)
    body, times = received(model, f"mauve {backend}")
    assert f"teal {backend}" in body
    assert times == 1, "told once, remembered from there on"
    assert f"puce {backend}" not in body


@pytest.mark.parametrize("backend", AGENTS)
async def test_a_turn_cut_by_the_daemons_death_is_interrupted_and_the_session_goes_on(
    running, ask, model, backend
):
    session = (await ask(f"remember magenta {backend}", backend=backend))["session_id"]
    body = {"prompt": f"[[long:500]] [[slow:30]] cut {backend}", "session_id": session, "detach": True}
    run = (await running.client.call("POST", PROMPT, body)).json["run_id"]
    await become_true(lambda: model.of(f"cut {backend}"), 10)
    await trio.sleep(0.3)
    await kill_daemon(running)
    found = (await running.client.get(f"/api/v1/runs/{run}")).json
    assert (found["status"], found["outcome"]["code"]) == ("error", "interrupted")
    await ask(f"after the cut {backend} [[say:yes]]", session)
    text, _ = received(model, f"after the cut {backend}")
    assert f"magenta {backend}" in text


async def test_deleting_a_session_of_claude_ends_its_process_and_its_turn(running, ask):
    session = (await ask("to be deleted", backend="claude"))["session_id"]
    async with running.client.stream("[[long:900]] [[slow:20]]", "claude", ephemeral=False) as events:
        await events.until("w2")
        other = events.events[0]["session_id"]
        busy = {agent.pid for agent in running.agents() if "claude" in _command(agent.pid)}
        for one in (session, other):
            assert (await running.client.call("DELETE", f"/api/v1/sessions/{one}")).status == 200
        with trio.fail_after(5):
            await events.to_end()
    assert events.code == "cancelled"
    # Each of the two held a process of its own; spares and other tests' sessions may be among the rest.
    await become_true(lambda: len([pid for pid in busy if "claude" in _command(pid)]) <= len(busy) - 2, 5)
    for one in (session, other):
        assert (await running.client.get(f"/api/v1/sessions/{one}")).status == 404


def _command(pid):
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return ""
