"""`POST /parallel`: many turns at once, as one run (contract, section 3)."""

import json

import pytest
import trio

from tests.api.websocket.support import connected
from tests.fanout.support import check_tasks, fan, outputs, result, states, streaming, tasks
from tests.sessions.support import ended, look, query, replay, session
from tests.support.daemon import become_true

WAIT = "{{wait:30}}"


async def test_the_answer_has_every_task_in_order_whichever_ends_first(client):
    body = {"tasks": tasks("{{wait:0.2}}a", "b", "{{wait:0.1}}c", backend="writing"), "max_parallel": 3}
    answer = await result(client, "parallel", body)
    assert outputs(answer) == ["a", "b", "c"]
    assert [one["task"] for one in answer["results"]] == [0, 1, 2]
    assert (answer["total_tasks"], answer["completed"], answer["failed"], answer["cancelled"]) == (3, 3, 0, 0)
    assert all(one["exit_code"] == 0 and one["stop_reason"] == "end_turn" for one in answer["results"])
    slow, fast, _ = answer["results"]
    assert slow["duration_ms"] >= 200 > fast["duration_ms"]
    assert slow["first_token_ms"] >= 200
    assert answer["total_duration_ms"] >= slow["duration_ms"]


async def test_as_many_run_at_once_as_it_says_and_no_more(client):
    took = {}
    for at_once in (1, 4):
        body = {"tasks": tasks(*["{{wait:0.2}}x"] * 4, backend="writing"), "max_parallel": at_once}
        took[at_once] = (await result(client, "parallel", body))["total_duration_ms"]
    assert took[1] >= 800
    assert took[4] < 600


async def test_three_run_at_once_where_it_does_not_say(client):
    async with streaming(
        client, "parallel", {"tasks": tasks(*[f"x{WAIT}"] * 5, backend="writing")}
    ) as events:
        while sum(event["type"] == "message" for event in events.events) < 3:
            await events.more()
        with trio.move_on_after(0.3):
            await events.more()
        assert {event["task"] for event in events.events} == {0, 1, 2}


@pytest.mark.parametrize("accept", ["text/event-stream", "application/x-ndjson"])
async def test_streams_carry_the_tasks_and_a_last_event_with_the_whole_result(client, accept):
    answer = await fan(client, "parallel", {"tasks": tasks("a b", "c d", backend="echo")}, accept=accept)
    assert answer.headers["content-type"].startswith(accept)
    lines = [line.removeprefix(b"data: ") for line in answer.body.split(b"\n") if b"{" in line]
    events = [json.loads(line) for line in lines]
    check_tasks(events)
    for number, text in enumerate(("a b", "c d")):
        mine = [event for event in events if event.get("task") == number]
        assert [event["type"] for event in mine] == ["start", "message", "message", "complete"]
        assert mine[-1]["content"]["output"] == text
        assert {event["backend"] for event in mine} == {"echo"}
        assert len({event["session_id"] for event in mine}) == 1
    last = events[-1]["content"]
    assert outputs(last["result"]) == ["a b", "c d"]
    assert last["exit_code"] == 0
    assert last["token_usage"]["output_tokens"] == 4


async def test_it_runs_over_the_websocket_and_many_share_one(daemon):
    async with connected(daemon) as line:
        await line.send("parallel", ref="p", tasks=tasks("one", "two", backend="echo"))
        await line.send("chain", ref="c", steps=tasks("three", "{{previous}} four", backend="echo"))
        await line.send("compare", ref="x", prompt="five", backends=["echo"])
        last = {}
        while len(last) < 3:
            event = await line.next()
            if event["type"] == "complete" and "task" not in event:
                last[event["ref"]] = event["content"]["result"]
        assert {ref: outputs(found) for ref, found in last.items()} == {
            "p": ["one", "two"],
            "c": ["three", "three four"],
            "x": ["five"],
        }
        refused = await line.ask("parallel", ref="r", tasks=tasks("x", workdir="relative"))
        assert refused["content"]["param"] == "tasks[0].workdir"


@pytest.mark.parametrize(
    ("kind", "body", "param"),
    [
        (
            "parallel",
            {"tasks": [{"prompt": "x"}] * 3 + [{"prompt": "x", "workdir": "rel"}]},
            "tasks[3].workdir",
        ),
        ("parallel", {"tasks": [{"prompt": "x"}, {"prompt": 1}]}, "tasks[1].prompt"),
        ("parallel", {"tasks": [{"prompt": "x"}, {"prompt": "x\0"}]}, "tasks[1].prompt"),
        ("parallel", {"tasks": [{"prompt": "x", "backend": "nobody"}]}, "tasks[0].backend"),
        ("parallel", {"tasks": [{"prompt": "x", "session_id": "s", "model": "m"}]}, "tasks[0].session_id"),
        ("parallel", {"tasks": [{"prompt": "x", "stream": True}]}, "tasks[0].stream"),
        ("parallel", {"tasks": [{"prompt": "x", "detach": True}]}, "tasks[0].detach"),
        ("parallel", {"tasks": [{"prompt": "x", "dry_run": True}]}, "tasks[0].dry_run"),
        ("parallel", {"tasks": [{"prompt": "x", "verbose": True}]}, "tasks[0].verbose"),
        ("parallel", {"tasks": [{"prompt": "x", "max_turns": 3}]}, "tasks[0].max_turns"),
        ("parallel", {"tasks": [{"prompt": "x"}, {"prompt": "x", "ephemeral": True}]}, "tasks[1].ephemeral"),
        ("parallel", {"tasks": []}, "tasks"),
        ("parallel", {"tasks": [{"prompt": "x"}] * 257}, "tasks"),
        ("parallel", {"tasks": [{"prompt": "x"}], "max_parallel": 65}, "max_parallel"),
        ("parallel", {"tasks": [{"prompt": "x"}], "max_parallel": 0}, "max_parallel"),
        ("parallel", {"tasks": [{"prompt": "x"}], "keep": True}, "keep"),
        ("parallel", {"tasks": [{"prompt": "x"}], "check": "true"}, "check"),
        ("parallel", {"tasks": [{"prompt": "x"}], "isolate": "worktree"}, "tasks[0].workdir"),
        ("parallel", {"tasks": [{"prompt": "x"}], "more": 1}, "more"),
        ("chain", {"steps": []}, "steps"),
        ("chain", {"steps": [{"prompt": "x"}, {"prompt": "x", "workdir": "rel"}]}, "steps[1].workdir"),
        ("chain", {"steps": [{"prompt": "x"}, {"prompt": "x", "schema": {"type": 1}}]}, "steps[1].schema"),
        ("chain", {"steps": [{"prompt": "{{previous}}"}]}, "steps[0].prompt"),
        ("chain", {"steps": [{"prompt": "x", "name": "a"}] * 2}, "steps[1].name"),
        ("chain", {"steps": [{"prompt": "x", "name": "a b"}]}, "steps[0].name"),
        ("compare", {"prompt": "x", "backends": ["echo", "nobody"]}, "backends[1]"),
        ("compare", {"prompt": "x", "backends": ["echo", "echo"]}, "backends[1]"),
        ("compare", {"prompt": "x", "workdir": "rel"}, "workdir"),
        ("compare", {"prompt": "x", "judge": {"backend": "nobody"}}, "judge.backend"),
    ],
)
async def test_a_bad_request_is_a_400_that_names_the_place(client, kind, body, param):
    answer = await fan(client, kind, body)
    assert (answer.status, answer.json["error"]["param"]) == (400, param), answer


async def test_a_dry_run_tells_what_each_task_would_start_and_starts_nothing(daemon):
    before = query(daemon, "SELECT count(*) FROM runs")
    bodies = {
        "parallel": {"tasks": tasks("x", backend="echo")},
        "chain": {"steps": tasks("x", backend="echo")},
        "compare": {"prompt": "x", "backends": ["echo"]},
    }
    for kind, body in bodies.items():
        answer = await result(daemon.client, kind, {**body, "dry_run": True})
        [told] = answer["results"]
        assert (answer["dry_run"], told["backend"]) == (True, "echo")
        assert "clinvoker.backends.echo" in told["command"]
    assert query(daemon, "SELECT count(*) FROM runs") == before


async def test_one_failure_is_its_own_tasks(client):
    body = {"tasks": [*tasks("a", "{{error:7,no}}", backend="writing"), {"prompt": "b", "backend": "absent"}]}
    answer = await result(client, "parallel", body)
    assert states(answer) == [("completed", True), ("failed", True), ("failed", False)]
    assert (answer["completed"], answer["failed"]) == (1, 2)
    good, bad, absent = answer["results"]
    assert (good["exit_code"], bad["exit_code"]) == (0, 1)
    assert bad["error"]["type"] == "backend_error"
    assert absent["error"]["code"] == "backend_not_installed"


async def test_with_fail_fast_the_running_are_stopped_and_the_rest_never_begin(daemon):
    body = {
        "tasks": tasks(f"a{WAIT}", "{{wait:0.3}}{{error:7,no}}", f"c{WAIT}", "d", backend="writing"),
        "max_parallel": 3,
        "fail_fast": True,
    }
    async with streaming(daemon.client, "parallel", body) as events:
        await events.to_end()
    check_tasks(events.events)
    answer = events.last["content"]["result"]
    assert states(answer) == [
        ("cancelled", True),
        ("failed", True),
        ("cancelled", True),
        ("cancelled", False),
    ]
    assert [one["error"]["code"] for one in answer["results"][:3:2]] == ["cancelled"] * 2
    assert answer["results"][0]["output"] == "a"
    assert answer["total_duration_ms"] < 5000


async def test_without_fail_fast_the_others_go_on(client):
    body = {"tasks": tasks("{{error:7,no}}", "{{wait:0.2}}b", backend="writing"), "fail_fast": False}
    assert states(await result(client, "parallel", body)) == [("failed", True), ("completed", True)]


async def test_a_run_that_is_cancelled_ends_every_task_and_says_what_became_of_each(daemon):
    body = {
        "tasks": tasks("a", f"b{{{{spawn:setsid}}}}{WAIT}", f"c{WAIT}", "d", backend="writing"),
        "max_parallel": 2,
    }
    answers = []
    running = "SELECT id FROM runs WHERE status = 'running'"
    await become_true(lambda: not query(daemon, running), 5)  # those of other tests

    async def ask():
        answers.append(await result(daemon.client, "parallel", body))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask)
        await become_true(lambda: query(daemon, running), 5)
        [[run]] = query(daemon, running)
        events = "SELECT count(*) FROM turns WHERE ended IS NULL"
        await become_true(lambda: query(daemon, events) == [(2,)], 5)
        await become_true(daemon.strays, 5)
        answer = await daemon.client.call("POST", f"/api/v1/runs/{run}/cancel", {})
        assert answer.json == {"run_id": run, "cancelled": True}
    [answer] = answers
    assert answer["error"]["code"] == "cancelled"
    assert states(answer) == [
        ("completed", True),
        ("cancelled", True),
        ("cancelled", True),
        ("cancelled", False),
    ]
    check_tasks(await replay(daemon.client, run))
    await become_true(lambda: not daemon.strays() and not daemon.noted_children(), 5)


async def test_when_the_caller_goes_away_every_task_ends(daemon):
    body = {"tasks": tasks(*[f"x{{{{spawn:setsid}}}}{WAIT}"] * 3, backend="writing")}
    async with streaming(daemon.client, "parallel", body) as events:
        while len({event["task"] for event in events.events if event["type"] == "message"}) < 3:
            await events.more()
        run = events.run_id
        events.reset()
    assert (await ended(daemon.client, run))["outcome"]["code"] == "cancelled"
    await become_true(lambda: not daemon.strays() and not daemon.noted_children(), 5)
    assert states((await look(daemon.client, run))["outcome"]["result"]) == [("cancelled", True)] * 3


async def test_it_is_followed_from_any_event_and_stored_with_the_sessions_of_its_tasks(daemon):
    async with streaming(
        daemon.client, "parallel", {"tasks": tasks("a b", "c d", backend="writing")}
    ) as events:
        await events.to_end()
    run = events.run_id
    stored = await replay(daemon.client, run)
    assert stored == events.events
    assert await replay(daemon.client, run, after=3) == events.events[3:]
    told = await look(daemon.client, run)
    assert (told["status"], outputs(told["outcome"]["result"])) == ("complete", ["a b", "c d"])
    for one, prompt in zip(told["outcome"]["result"]["results"], ("a b", "c d"), strict=True):
        kept = await session(daemon.client, one["session_id"])
        assert [(turn["prompt"], turn["output"], turn["run_id"]) for turn in kept["turns"]] == [
            (prompt, prompt, run)
        ]


async def test_a_tasks_session_goes_on(client):
    first = await result(client, "parallel", {"tasks": tasks("mark-1", "mark-2", backend="writing")})
    ids = [one["session_id"] for one in first["results"]]
    body = {"tasks": [{"prompt": "{{marks}}", "session_id": each} for each in ids]}
    assert outputs(await result(client, "parallel", body)) == ["mark-1", "mark-2"]


async def test_a_session_that_is_deleted_takes_the_runs_events_along(client):
    answer = await result(client, "parallel", {"tasks": tasks("a", "b", backend="echo")})
    [one, other] = [each["session_id"] for each in answer["results"]]
    assert (await client.call("DELETE", f"/api/v1/sessions/{one}")).status == 200
    with trio.fail_after(3):
        while (await client.get(f"/api/v1/runs/{answer['run_id']}")).status != 404:
            await trio.sleep(0.05)
    assert (await session(client, other))["turns"][0]["output"] == "b"


async def test_an_ephemeral_one_leaves_nothing(daemon):
    count = "SELECT (SELECT count(*) FROM runs) + (SELECT count(*) FROM sessions)"
    before = query(daemon, count)
    body = {"tasks": tasks("a", "b", backend="echo", ephemeral=True)}
    assert outputs(await result(daemon.client, "parallel", body)) == ["a", "b"]
    assert query(daemon, count) == before


async def test_a_detached_one_goes_on_without_a_reader(client):
    answer = await result(
        client, "parallel", {"tasks": tasks("{{wait:0.5}}a", backend="writing"), "detach": True}
    )
    assert answer.keys() == {"run_id"}
    told = await ended(client, answer["run_id"])
    assert outputs(told["outcome"]["result"]) == ["a"]


async def test_the_same_request_under_one_key_is_one_run(client):
    body = {"tasks": tasks("a", backend="echo")}
    answers = [await fan(client, "parallel", body, **{"idempotency-key": "fan-1"}) for _ in range(2)]
    assert answers[0].body == answers[1].body
    other = await fan(client, "parallel", {"tasks": tasks("b")}, **{"idempotency-key": "fan-1"})
    assert other.status == 409


async def test_sixty_four_tasks_twenty_times_are_exact_and_leave_nothing(daemon):
    prompts = [f"task {number} of 64" for number in range(64)]
    body = {"tasks": tasks(*prompts, backend="echo"), "max_parallel": 64}
    memory = []
    for _ in range(20):
        answer = await result(daemon.client, "parallel", body)
        assert outputs(answer) == prompts
        assert (answer["completed"], answer["failed"]) == (64, 0)
        memory.append(daemon.rss())
    assert max(memory[10:]) - memory[9] < 8 * 1024**2, memory
    assert not daemon.strays()


async def test_a_fan_out_never_starves_a_single_prompt(daemon):
    body = {"tasks": tasks(*[f"x{WAIT}"] * 64, backend="writing"), "max_parallel": 64}
    async with streaming(daemon.client, "parallel", body) as events:
        while sum(event["type"] == "message" for event in events.events) < 24:
            await events.more()
        with trio.fail_after(3):
            assert (await daemon.client.ask("alone", "writing")).json["output"] == "alone"
        begun = {event["task"] for event in events.events}
        assert len(begun) == 24, "three quarters of 32 places"
        events.reset()
