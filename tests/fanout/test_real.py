"""Fan-outs over the real agents, against the fake model."""

import os
import re
from types import SimpleNamespace

import pytest
import trio

from tests.daemon.support import FREE, backends, shell
from tests.fanout.support import Repository, outputs, result, states, tasks
from tests.support.client import Client
from tests.support.daemon import Daemon, become_true

pytestmark = pytest.mark.real

AGENTS = ("claude", "codex", "gemini")
SLACK = 0.3
"""Seconds that a fan-out may take over its slowest agent's share."""


@pytest.fixture(scope="module")
def everything(model, tmp_path_factory):
    home = tmp_path_factory.mktemp("real")
    settings = backends(model.url, home / "homes", *AGENTS)
    settings["claude"] |= {"spares": 2, "max_processes": 5, "max_idle": 2}
    with Daemon(home / "daemon", backends=settings) as daemon:
        yield daemon


async def series(client, name, **labels):
    """A number from the metrics."""
    text = (await client.get("/metrics")).body.decode()
    inside = ",".join(f'{key}="{value}"' for key, value in labels.items())
    found = re.search(rf"^clinvoker_{name}{{{inside}}} ([0-9.e+]+)$", text, re.MULTILINE)
    return float(found[1]) if found else 0.0


async def ready(client):
    """Wait until every agent has the processes that two tasks take."""
    with trio.fail_after(30):
        for backend, states, least in (
            ("claude", ("spare",), 2),
            ("codex", ("spare", "idle"), 1),
            ("gemini", ("spare", "idle"), 1),
        ):
            while (
                sum([await series(client, "processes", backend=backend, state=state) for state in states])
                < least
            ):
                await trio.sleep(0.1)


@pytest.fixture
async def real(everything, tmp_path):
    """The daemon, with all agents ready."""
    client = everything.client = Client(everything.client.port)
    await ready(client)
    return SimpleNamespace(daemon=everything, client=client, path=tmp_path)


def pair(backend):
    return tasks("[[wait:800]] one", "[[wait:800]] two", backend=backend)


async def test_six_tasks_over_three_agents_take_what_the_slowest_agents_share_takes(real):
    shares = {}
    for backend in AGENTS:
        answer = await result(real.client, "parallel", {"tasks": pair(backend), "max_parallel": 6})
        assert answer["completed"] == 2
        shares[backend] = answer["total_duration_ms"]
    await ready(real.client)
    body = {"tasks": [task for backend in AGENTS for task in pair(backend)], "max_parallel": 6}
    answer = await result(real.client, "parallel", body)
    assert (answer["completed"], answer["failed"]) == (6, 0), answer
    assert outputs(answer) == ["echo: [[wait:800]] one", "echo: [[wait:800]] two"] * 3
    assert answer["total_duration_ms"] <= max(shares.values()) + 1000 * SLACK, shares


@pytest.mark.parametrize("backend", ["codex", "gemini"])
async def test_an_eight_way_fan_out_uses_one_process(real, backend):
    prompts = [f"[[wait:1500]] number {number}" for number in range(8)]
    answer = await result(
        real.client, "parallel", {"tasks": tasks(*prompts, backend=backend), "max_parallel": 8}
    )
    assert answer["completed"] == 8
    assert all(f"number {number}" in said for number, said in enumerate(outputs(answer)))
    assert answer["total_duration_ms"] < 8 * 1500
    assert await series(real.client, "spawns_total", backend=backend) == 1


async def test_an_agents_own_limits_hold_and_one_of_its_processes_stays_free(real):
    most = 0
    """Processes beside those of codex and gemini, which have one each."""

    async def watch():
        nonlocal most
        while True:
            most = max(most, len(real.daemon.agents()) - 2)
            await trio.sleep(0.05)

    async def fan_out():
        body = {"tasks": tasks(*["[[wait:1500]] x"] * 6, backend="claude"), "max_parallel": 6}
        answer = await result(real.client, "parallel", body)
        assert answer["completed"] == 6
        nursery.cancel_scope.cancel()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch)
        nursery.start_soon(fan_out)
        while await series(real.client, "processes", backend="claude", state="busy") < 4:
            await trio.sleep(0.05)
        with trio.fail_after(10):
            assert (await real.client.ask("alone", "claude")).json["output"] == "echo: alone"
        assert await series(real.client, "queue_depth", queue="pool_claude") == 0, (
            "none of its tasks stands in line"
        )
    assert 0 < most <= 5


async def test_a_comparison_takes_as_long_as_the_slowest(real):
    over = []
    while len(over) < 6 and min(over, default=1000) > 50:
        answer = await result(
            real.client, "compare", {"prompt": "[[wait:300]] same words", "backends": [*AGENTS]}
        )
        assert states(answer) == [("completed", True)] * 3
        over.append(answer["total_duration_ms"] - max(one["duration_ms"] for one in answer["results"]))
        assert answer["agreement"]["mean"] == 1
        assert all(one["token_usage"]["output_tokens"] > 0 for one in answer["results"])
        assert all(one["first_token_ms"] >= 300 for one in answer["results"])
    # One of them at least is to show it, where others do not take the processor.
    assert min(over) <= (50 if os.getloadavg()[0] < os.cpu_count() else 250), over


async def test_two_tasks_that_write_the_same_file_have_two_diffs(real):
    repository = Repository(real.path / "repository", dirty=True)
    before = repository.state()
    prompts = [shell("claude", f"echo {word} > file; cat untracked") for word in ("one", "two")]
    body = {
        "tasks": tasks(*prompts, backend="claude", workdir=str(repository.path), **FREE["claude"]),
        "isolate": "worktree",
        "check": "grep -q two file",
    }
    answer = await result(real.client, "parallel", body)
    assert states(answer) == [("completed", True)] * 2, answer
    one, two = answer["results"]
    assert "+one\n" in one["diff"]
    assert "+two\n" in two["diff"]
    assert (one["files_changed"], two["files_changed"]) == (["file"], ["file"])
    assert (one["check"]["exit_code"], two["check"]["exit_code"]) == (1, 0)
    assert "untracked" in one["output"]
    assert repository.state() == before
    assert repository.traces() == []
    await become_true(lambda: not list((real.daemon.state / "worktrees").iterdir()), 1)


@pytest.mark.parametrize("judge", ["claude", "gemini"])
async def test_a_judge_ranks_and_gives_its_reasons(real, judge):
    ranking = '{"ranking": [{"answer": "B", "reason": "better"}, {"answer": "A", "reason": "worse"}]}'
    how = f"[[json:{ranking}]]" if judge == "claude" else f"[[say:{ranking}]]"
    body = {"prompt": "words", "backends": ["codex", "gemini"], "judge": {"backend": judge, "criteria": how}}
    answer = await result(real.client, "compare", body)
    judged = answer["judge"]
    assert "error" not in judged, judged
    best, worst = judged["shown"][1], judged["shown"][0]
    assert [(one["rank"], one["backend"], one["reason"]) for one in judged["ranking"]] == [
        (1, best, "better"),
        (2, worst, "worse"),
    ]
    assert [answer["backends"][one["task"]] for one in judged["ranking"]] == [best, worst]
    assert judged["token_usage"]["output_tokens"] > 0


async def test_a_chain_passes_answers_from_agent_to_agent(real):
    steps = [{"prompt": "[[say:one]]", "backend": "claude", "name": "a"}]
    steps.append({"prompt": "<{{previous}}> two", "backend": "codex"})
    steps.append({"prompt": "{{steps.a.output}} <{{previous}}>", "backend": "gemini"})
    answer = await result(real.client, "chain", {"steps": steps})
    assert outputs(answer)[0] == "one"
    assert "<one> two" in outputs(answer)[1]
    assert f"one <{outputs(answer)[1]}>" in outputs(answer)[2]


async def test_consecutive_steps_on_one_agent_share_its_conversation(real):
    steps = tasks("first words", "second words", "[[history]]", backend="claude")
    answer = await result(real.client, "chain", {"steps": steps, "continue_session": True})
    assert "first words" in outputs(answer)[2]
    apart = await result(real.client, "chain", {"steps": steps})
    assert "first words" not in outputs(apart)[2]
