"""Every agent answers in every form, and what a request asks for reaches it."""

import json
from functools import partial

import pytest

from tests.daemon.support import ALL, FREE, REAL, shell
from tests.support.daemon import become_true

PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAgAAAAICAIAAABLbSncAAAAEklEQVR4nGP4z8CAFWEXHbQSACj/P8Fu7N9hAAAAAElFTkSuQmCC"
TEXT = "naïve \u2028 \U0001f642 three four"


def spoken(backend, text):
    return text if backend == "echo" else f"echo: {text}"


@pytest.mark.parametrize("backend", ALL)
async def test_an_answer_is_the_same_as_json_as_sse_and_as_ndjson(scene, backend):
    whole = (await scene.client.ask(TEXT, backend)).json
    assert (whole["output"], whole["exit_code"]) == (spoken(backend, TEXT), 0)
    assert whole["stop_reason"] == "end_turn"
    assert whole["token_usage"]["output_tokens"] > 0
    sse = await scene.client.read(TEXT, backend)
    body = {"prompt": TEXT, "backend": backend, "output_format": "stream-json", "ephemeral": True}
    answer = await scene.client.call("POST", "/api/v1/prompt", body)
    ndjson = [json.loads(line) for line in answer.body.split(b"\n") if line]
    for events in (sse.events, ndjson):
        assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
        assert events[0]["type"] == "start"
        assert events[0]["content"].keys() == {"model", "workdir"}
        assert [event["type"] for event in events if event["type"] in {"complete", "error"}] == ["complete"]
        assert events[-1]["type"] == "complete"
        said = "".join(event["content"]["text"] for event in events if event["type"] == "message")
        assert said == events[-1]["content"]["output"] == whole["output"]
        assert all(event["backend"] == backend for event in events)


@pytest.mark.parametrize("backend", REAL)
async def test_text_arrives_token_by_token(scene, backend):
    events = await scene.client.read("[[long:40]] [[slow:40]]", backend)
    pieces = [event for event in events.events if event["type"] == "message"]
    assert events.text == " ".join(f"w{number}" for number in range(40))
    assert len(pieces) >= 30
    assert len({event["timestamp"] for event in pieces}) > 10


@pytest.mark.parametrize("backend", REAL)
async def test_thinking_and_tools_arrive_as_events(scene, backend):
    prompt = "[[think:hmm, a tool]]" + shell(backend, "echo made > made.txt; cat made.txt")
    events = await scene.client.read(prompt, backend, workdir=str(scene.workdir), **FREE[backend])
    by_type = {
        kind: [event["content"] for event in events.events if event["type"] == kind]
        for kind in ("thinking", "tool_use", "tool_result")
    }
    assert "hmm, a tool" in "".join(piece["text"] for piece in by_type["thinking"])
    [use], [result] = by_type["tool_use"], by_type["tool_result"]
    assert use["id"] == result["id"]
    assert use["name"]
    assert "made.txt" in json.dumps(use["input"])
    assert result["is_error"] is False
    # gemini 0.61.0 shows a command's output to the model alone.
    assert ("made" in result["output"]) is (backend != "gemini")
    assert (scene.workdir / "made.txt").read_text() == "made\n"
    assert events.last["type"] == "complete"
    order = [event["type"] for event in events.events]
    assert order.index("thinking") < order.index("tool_use") < order.index("tool_result")


@pytest.mark.parametrize("backend", REAL)
async def test_a_conversation_goes_on(scene, backend):
    first = await scene.client.ask("remember vermilion", backend, ephemeral=False)
    again = await scene.client.call(
        "POST", "/api/v1/prompt", {"prompt": "[[history]]", "session_id": first.json["session_id"]}
    )
    assert "vermilion" in again.json["output"]


@pytest.mark.parametrize("backend", REAL)
async def test_the_working_directory_is_the_agents(scene, backend):
    answer = await scene.client.ask(
        shell(backend, "pwd > where.txt"), backend, workdir=str(scene.workdir), **FREE[backend]
    )
    assert answer.json["exit_code"] == 0, answer
    assert (scene.workdir / "where.txt").read_text().strip() == str(scene.workdir)


@pytest.mark.parametrize("backend", ["claude", "codex", "gemini"])
async def test_a_system_prompt_reaches_the_model(scene, backend):
    words = f"You are the parrot of {backend}."
    mark = f"[[say:parrot {backend}]]"
    assert (await scene.client.ask(mark, backend, system_prompt=words)).json["exit_code"] == 0
    assert words in json.dumps(scene.model.of(mark)[-1]["body"])


MODELS = {
    "claude": "claude-other-model",
    "codex": "other-model",
    "gemini": "gemini-2.5-pro",
    "opencode": "fake/fake-model",
}


@pytest.mark.parametrize("backend", REAL)
async def test_a_model_reaches_the_model(scene, backend):
    mark = f"[[say:model {backend}]]"
    events = await scene.client.read(mark, backend, model=MODELS[backend])
    request = scene.model.of(mark)[-1]
    assert MODELS[backend].rpartition("/")[2] in request["path"] + str(request["body"].get("model"))
    assert events.events[0]["content"]["model"] == MODELS[backend]


@pytest.mark.parametrize("backend", ["claude", "codex", "gemini"])
async def test_a_picture_reaches_the_model(scene, backend):
    mark = f"[[say:picture {backend}]]"
    images = [{"media_type": "image/png", "data": PIXEL}]
    assert (await scene.client.ask(mark, backend, images=images)).json["exit_code"] == 0
    assert PIXEL in json.dumps(scene.model.of(mark)[-1]["body"])


@pytest.mark.parametrize("backend", ["claude", "codex"])
async def test_an_answer_satisfies_its_schema(scene, backend):
    schema = {
        "type": "object",
        "properties": {"a": {"type": "integer"}},
        "required": ["a"],
        "additionalProperties": False,
    }
    answer = await scene.client.ask(f'[[json:{{"a":7}}]] for {backend}', backend, schema=schema)
    assert json.loads(answer.json["output"]) == {"a": 7}, answer


async def test_claude_is_held_to_a_number_of_tokens_and_of_turns(scene):
    answer = await scene.client.ask("[[say:few tokens]]", "claude", max_tokens=1234)
    assert answer.json["exit_code"] == 0
    assert scene.model.of("[[say:few tokens]]")[-1]["body"]["max_tokens"] == 1234
    tools = shell("claude", "true") * 3
    answer = await scene.client.ask(tools, "claude", max_turns=2, approval_mode="auto")
    assert answer.json["stop_reason"] == "max_turns", answer


async def test_an_answer_cut_at_the_limit_of_tokens_says_so(scene):
    # gemini 0.61.0 calls every end `end_turn`.
    answer = await scene.client.ask("one two [[max]]", "codex")
    assert answer.json["stop_reason"] == "max_tokens", answer


MAKE = "touch made.txt"


@pytest.mark.parametrize("backend", ["claude", "codex", "gemini"])
@pytest.mark.parametrize("allowed", [True, False])
async def test_the_caller_is_asked_and_the_answer_counts(scene, backend, allowed):
    prompt = shell(backend, MAKE)
    sandbox = {"sandbox_mode": "workspace"} if backend == "codex" else {}
    asking = partial(scene.client.stream, prompt, backend, workdir=str(scene.workdir), **sandbox)
    async with asking(approval_mode="always") as events:
        while events.last.get("type") != "permission":
            assert await events.more(), events
        permission = events.last["content"]
        assert permission.keys() == {"id", "tool", "input", "options"}
        assert {"allow", "deny"} <= {*permission["options"]}
        assert not (scene.workdir / "made.txt").exists()
        path = f"/api/v1/runs/{events.run_id}/permissions/{permission['id']}"
        wrong = await scene.client.call("POST", path, {"option": "perhaps"})
        assert (wrong.status, wrong.json["error"]["param"]) == (400, "option")
        option = "allow" if allowed else "deny"
        assert (await scene.client.call("POST", path, {"option": option})).status == 200
        assert (await scene.client.call("POST", path, {"option": option})).status == 404
        await events.to_end()
    assert events.last["type"] == "complete", events
    assert (scene.workdir / "made.txt").exists() is allowed
    results = [event["content"] for event in events.events if event["type"] == "tool_result"]
    assert [result["is_error"] for result in results] == [not allowed]
    assert bool(events.last["content"].get("denied")) is not allowed


@pytest.mark.parametrize("backend", ["claude", "gemini"])
async def test_by_default_what_would_ask_a_person_is_denied_and_named(scene, backend):
    answer = await scene.client.ask(shell(backend, MAKE), backend, workdir=str(scene.workdir), verbose=True)
    assert not (scene.workdir / "made.txt").exists()
    assert answer.json["exit_code"] == 0
    assert answer.json["denied"], answer
    results = [event["content"] for event in answer.json["events"] if event["type"] == "tool_result"]
    assert [result["is_error"] for result in results] == [True]


@pytest.mark.parametrize("backend", ["claude", "codex"])
async def test_a_read_only_sandbox_writes_nothing(scene, backend):
    mode = {"sandbox_mode": "read-only", "approval_mode": "none"}
    answer = await scene.client.ask(shell(backend, MAKE), backend, workdir=str(scene.workdir), **mode)
    assert not (scene.workdir / "made.txt").exists()
    assert answer.status == 200, answer


async def test_an_agent_that_waits_for_leave_is_not_timed_out_by_its_silence(scene):
    prompt = shell("claude", MAKE)
    async with scene.client.stream(
        prompt, "claude", workdir=str(scene.workdir), approval_mode="always"
    ) as events:
        while events.last.get("type") != "permission":
            assert await events.more(), events
    await become_true(lambda: not scene.daemon.strays(), 5)
    assert not (scene.workdir / "made.txt").exists()
