"""The fake model by itself, and the four real CLIs getting its answer over their persistent protocols by hand."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path

import httpx2
import pytest
import trio

from tests.fake_model import FakeModel, serve
from tests.support import clis, environments

ROOT = Path(__file__).resolve().parent.parent
MARKER = "CLINVOKER_TEST_RUN"


@pytest.fixture
async def model(nursery):
    return await nursery.start(serve)


@pytest.fixture
async def http(model):
    async with httpx2.AsyncClient(base_url=model.base_url, trust_env=False, timeout=5) as client:
        yield client


def anthropic(text: str, **fields) -> dict:
    return {"model": "m", "stream": True, "messages": [{"role": "user", "content": text}], **fields}


def responses(text: str, **fields) -> dict:
    content = [{"type": "input_text", "text": text}]
    return {
        "model": "m",
        "stream": True,
        "input": [{"type": "message", "role": "user", "content": content}],
        **fields,
    }


def chat(text: str, **fields) -> dict:
    return {"model": "m", "stream": True, "messages": [{"role": "user", "content": text}], **fields}


def gemini(text: str, **fields) -> dict:
    return {"contents": [{"role": "user", "parts": [{"text": text}]}], **fields}


GEMINI_STREAM = "/v1beta/models/m:streamGenerateContent?alt=sse"
ASK = {
    "/v1/messages": anthropic,
    "/v1/responses": responses,
    "/v1/chat/completions": chat,
    GEMINI_STREAM: gemini,
}
every_api = pytest.mark.parametrize("path", list(ASK))


def events(body: bytes) -> list[dict]:
    """SSE by its own grammar: only CR and LF end a line, so U+2028 and friends must not."""
    lines = body.split(b"\n")
    return [json.loads(line[6:]) for line in lines if line.startswith(b"data: {")]


def words_of(found: list[dict]) -> list[str]:
    """The answer's pieces, whichever API they came from."""
    words = []
    for event in found:
        match event:
            case {"delta": {"text": word}} | {"type": "response.output_text.delta", "delta": word}:
                words.append(word)
            case {"choices": [{"delta": {"content": word}}]} if word:
                words.append(word)
            case {"candidates": [{"content": {"parts": [{"text": word, **rest}]}}]} if not rest:
                words.append(word)
    return words


async def ask(http, path: str, text: str, **fields) -> httpx2.Response:
    return await http.post(path, json=ASK[path](text, **fields))


@every_api
async def test_default_answer_is_an_echo_word_by_word(http, model, path):
    answer = await ask(http, path, "hello brave world")
    assert words_of(events(answer.content)) == ["echo:", " hello", " brave", " world"]
    assert [(request.text, request.status, request.kind) for request in model.requests] == [
        ("hello brave world", "finished", "turn")
    ]


@every_api
async def test_unicode_survives(http, path):
    answer = "".join(words_of(events((await ask(http, path, "[[unicode]]")).content)))
    assert all(mark in answer for mark in ("\u2028", "\u2029", "\u0085", "\U0001f642", "e\u0301"))


@every_api
async def test_half_surrogates_travel_in_two_pieces(http, path):
    words = words_of(events((await ask(http, path, "[[surrogates]]")).content))
    assert words == ["pair ", "\ud83d", "\ude42", " joined"]


@every_api
async def test_errors_come_with_their_status_and_retry_after(http, path):
    answer = await ask(http, path, "[[err:429]] [[retryafter:7]]")
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "7")
    assert "error" in answer.json()


@every_api
async def test_a_context_overflow_says_so_as_its_api_does(http, path):
    answer = await ask(http, path, "[[errtype:context]]")
    assert answer.status_code == (200 if path == "/v1/responses" else 400)
    wordings = ("prompt is too long", "context_length_exceeded", "exceeds the maximum number of tokens")
    assert any(wording in answer.text for wording in wordings)


@every_api
async def test_what_is_no_directive_is_only_text(http, path):
    text = "[[slow:soon]] [[what]] [[long:"
    assert "".join(words_of(events((await ask(http, path, text)).content))) == f"echo: {text}"


@every_api
async def test_errtimes_fails_then_recovers(http, path):
    codes = [(await ask(http, path, "[[errtimes:500:2]]")).status_code for _ in range(3)]
    assert codes == [500, 500, 200]


@every_api
async def test_mid_cut_drops_the_connection_once(http, model, path):
    with pytest.raises(httpx2.RemoteProtocolError):
        await ask(http, path, "[[mid:cut]]")
    answer = await ask(http, path, "[[mid:cut]]")
    assert "".join(words_of(events(answer.content))).endswith("six")
    assert [request.status for request in model.requests] == ["cut", "finished"]


@every_api
async def test_mid_error_is_an_event_after_some_words(http, path):
    found = events((await ask(http, path, "[[mid:error]]")).content)
    assert len(words_of(found)) == 3
    assert "error" in json.dumps(found[-1])


@every_api
async def test_the_log_shows_when_a_client_left(http, model, path):
    with trio.move_on_after(0.1):
        await ask(http, path, "[[mid:hang]]")
    with trio.fail_after(1):
        await model.requests.wait_until(lambda log: log[0].status == "client_gone")
    assert model.requests[0].ended - model.requests[0].started < 1


@every_api
async def test_history_lists_the_user_texts(http, path):
    body = ASK[path]("[[history]]")
    key = next(name for name in ("messages", "input", "contents") if name in body)
    body[key] = ASK[path]("first")[key] + body[key]
    assert "".join(words_of(events((await http.post(path, json=body)).content))) == "first | [[history]]"


@every_api
async def test_thinking_stays_out_of_the_answer(http, path):
    found = events((await ask(http, path, "[[think:deep thought]] x")).content)
    assert "deep" in json.dumps(found)
    assert "deep" not in "".join(words_of(found)).partition("]]")[2]


async def test_a_tool_is_called_and_its_result_told(http, model):
    text = '[[tool:Bash {"command":"echo [[1]]"}]]'
    found = events((await ask(http, "/v1/messages", text)).content)
    raw = "".join(event["delta"].get("partial_json", "") for event in found if "delta" in event)
    assert json.loads(raw) == {"command": "echo [[1]]"}
    body = anthropic(text)
    result = {"type": "tool_result", "tool_use_id": "toolu_1", "content": "out"}
    body["messages"] += [{"role": "assistant", "content": "calling"}, {"role": "user", "content": [result]}]
    answer = await http.post("/v1/messages", json=body)
    assert "".join(words_of(events(answer.content))) == "tool-result: out"
    assert [request.kind for request in model.requests] == ["turn", "tool_result"]


ADD = {
    "type": "object",
    "properties": {"a": {"type": "integer"}, "b": {"type": "string"}, "c": {"type": "boolean"}},
    "required": ["a", "b"],
}
OFFERED = [{"name": name, "input_schema": ADD} for name in ("Read", "mcp__clinvoker__get_sum", "client_add")]
DEMANDED = "\n\nYou must call one of your tools get_sum, add before you answer."


@pytest.mark.parametrize(
    ("text", "name", "given"),
    [
        ("add 7 to 'x y'", "client_add", {"a": 7, "b": "x y"}),
        ("What is the sum?", "mcp__clinvoker__get_sum", {"a": 0, "b": "What is the sum?"}),
        (f"Hello!{DEMANDED}", "mcp__clinvoker__get_sum", {"a": 0, "b": "Hello!"}),
        (f"Just add.{DEMANDED}", "client_add", {"a": 0, "b": "Just add."}),
        (f'[[json:{{"a":1}}]]{DEMANDED}', "mcp__clinvoker__get_sum", {"a": 1}),
        ("Read the file", None, None),
        ("added\nup", None, None),
        (f"[[say:no]] add{DEMANDED}", None, None),
    ],
)
async def test_a_tool_of_our_clients_is_called_that_the_user_asks_for_without_a_directive(
    http, text, name, given
):
    answer = (await http.post("/v1/messages", json=anthropic(text, stream=False, tools=OFFERED))).json()
    calls = [(block["name"], block["input"]) for block in answer["content"] if block["type"] == "tool_use"]
    assert calls == ([] if name is None else [(name, given)])


async def test_whole_answers_without_streaming(http):
    text = "hi"
    claude = await http.post("/v1/messages", json=anthropic(text, stream=False))
    openai = await http.post("/v1/chat/completions", json=chat(text, stream=False))
    codex = await http.post("/v1/responses", json=responses(text, stream=False))
    google = await http.post("/v1beta/models/m:generateContent", json=gemini(text))
    assert claude.json()["content"][0]["text"] == "echo: hi"
    assert openai.json()["choices"][0]["message"]["content"] == "echo: hi"
    assert codex.json()["output"][0]["content"][0]["text"] == "echo: hi"
    assert google.json()["candidates"][0]["content"]["parts"][0]["text"] == "echo: hi"


async def test_small_errands_are_answered(http):
    assert (await http.head("/")).status_code == 200
    assert (await http.get("/v1/models")).json()["data"]
    counted = await http.post("/v1/messages/count_tokens", json=anthropic("hello"))
    assert counted.json()["input_tokens"] > 0


async def test_runs_as_a_process_and_logs(tmp_path):
    log = tmp_path / "requests.jsonl"
    command = [sys.executable, "-m", "tests.fake_model", "--log", str(log)]
    async with trio.open_nursery() as nursery:
        run = partial(trio.run_process, command, cwd=ROOT, stdout=subprocess.PIPE, check=False)
        process = await nursery.start(run)
        with trio.fail_after(10):
            url = (await process.stdout.receive_some()).decode().strip()
            async with httpx2.AsyncClient(base_url=url, trust_env=False) as client:
                assert words_of(events((await ask(client, "/v1/messages", "hi")).content)) == ["echo:", " hi"]
        process.terminate()
    assert [json.loads(line)["status"] for line in log.read_text().splitlines()] == ["open", "finished"]


# The real CLIs. Raw lines on purpose: the drivers' own code must not vouch for itself.


class Agent:
    """A CLI process that speaks JSON lines."""

    def __init__(self, process: trio.Process) -> None:
        self._process = process
        self._pending = b""

    async def send(self, message: dict) -> None:
        await self._process.stdin.send_all(json.dumps(message).encode() + b"\n")

    async def receive(self) -> dict:
        """Take the next line that is JSON."""
        while True:
            while b"\n" not in self._pending:
                chunk = await self._process.stdout.receive_some()
                assert chunk, "the CLI closed its output"
                self._pending += chunk
            line, _, self._pending = self._pending.partition(b"\n")
            if line.startswith(b"{"):
                return json.loads(line)

    async def call(self, number: int, method: str, params: dict, *, heard: list | None = None) -> dict:
        """Make a JSON-RPC request; what else is said until its answer goes to `heard`."""
        await self.send({"jsonrpc": "2.0", "id": number, "method": method, "params": params})
        while True:
            message = await self.receive()
            if message.get("id") == number and "method" not in message:
                return message["result"]
            if heard is not None:
                heard.append(message)


@asynccontextmanager
async def running(argv: list[str], setup: environments.Setup, cwd: Path) -> AsyncIterator[Agent]:
    """Run a CLI in its own session; at the end nothing that inherited its marker is left alive."""
    marker = uuid.uuid4().hex
    async with trio.open_nursery() as nursery:
        run = partial(
            trio.run_process,
            argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=cwd,
            env=setup.env | {MARKER: marker},
            start_new_session=True,
            check=False,
        )
        process = await nursery.start(run)
        try:
            with trio.fail_after(60):
                yield Agent(process)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            sweep(f"{MARKER}={marker}".encode())


def sweep(entry: bytes) -> None:
    """Kill every process that carries `entry` in its environment: tools live in sessions of their own."""
    for directory in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if entry in (directory / "environ").read_bytes().split(b"\0"):
                os.kill(int(directory.name), signal.SIGKILL)


@pytest.fixture(scope="session")
def installed():
    return clis.ensure_installed()


@pytest.fixture
def places(tmp_path):
    home, work = tmp_path / "home", tmp_path / "work"
    home.mkdir()
    work.mkdir()
    return home, work


PROMPTS = ["hello", "[[history]]"]
ANSWERS = ["echo: hello", "hello | [[history]]"]


def assert_asked_once_each(model: FakeModel, api: str) -> None:
    asked = [
        (request.api, request.text, request.status) for request in model.requests if request.kind == "turn"
    ]
    assert asked == [(api, text, "finished") for text in PROMPTS]


@pytest.mark.real
async def test_claude_gets_the_answer(model, installed, places):
    home, work = places
    setup = environments.claude(model.base_url, home)
    flags = "-p --input-format stream-json --output-format stream-json --verbose --include-partial-messages"
    turns = []
    async with running([*installed.claude, *flags.split()], setup, work) as agent:
        for text in PROMPTS:
            await agent.send({"type": "user", "message": {"role": "user", "content": text}})
            deltas = []
            while (message := await agent.receive())["type"] != "result":
                event = message.get("event", {})
                if event.get("type") == "content_block_delta":
                    deltas.append(event["delta"].get("text"))
            assert (message["is_error"], message["result"]) == (False, "".join(deltas))
            turns.append(message["result"])
    assert turns == ANSWERS
    assert_asked_once_each(model, "anthropic")


@pytest.mark.real
async def test_codex_gets_the_answer(model, installed, places):
    home, work = places
    setup = environments.codex(model.base_url, home)
    async with running([*installed.codex, *setup.flags, "app-server"], setup, work) as agent:
        await agent.call(1, "initialize", {"clientInfo": {"name": "t", "title": "t", "version": "0"}})
        await agent.send({"method": "initialized"})
        options = {"cwd": str(work), "approvalPolicy": "never", "sandbox": "read-only", "ephemeral": True}
        thread = (await agent.call(2, "thread/start", options))["thread"]["id"]
        turns = []
        for number, text in enumerate(PROMPTS, 3):
            heard: list[dict] = []
            prompt = {"threadId": thread, "input": [{"type": "text", "text": text}]}
            await agent.call(number, "turn/start", prompt, heard=heard)
            while not heard or heard[-1].get("method") != "turn/completed":
                heard.append(await agent.receive())
            assert heard[-1]["params"]["turn"]["status"] == "completed"
            deltas = [m["params"]["delta"] for m in heard if m.get("method") == "item/agentMessage/delta"]
            turns.append("".join(deltas))
    assert turns == ANSWERS
    assert_asked_once_each(model, "responses")


async def converse_over_acp(agent: Agent, work: Path) -> list[str]:
    """Have the two turns over the Agent Client Protocol."""
    await agent.call(1, "initialize", {"protocolVersion": 1, "clientCapabilities": {}})
    session = (await agent.call(2, "session/new", {"cwd": str(work), "mcpServers": []}))["sessionId"]
    turns = []
    for number, text in enumerate(PROMPTS, 3):
        heard: list[dict] = []
        prompt = {"sessionId": session, "prompt": [{"type": "text", "text": text}]}
        done = await agent.call(number, "session/prompt", prompt, heard=heard)
        assert done["stopReason"] == "end_turn"
        updates = [
            message["params"]["update"] for message in heard if message.get("method") == "session/update"
        ]
        chunks = [update for update in updates if update["sessionUpdate"] == "agent_message_chunk"]
        turns.append("".join(chunk["content"]["text"] for chunk in chunks))
    return turns


@pytest.mark.real
async def test_gemini_gets_the_answer(model, installed, places):
    home, work = places
    setup = environments.gemini(model.base_url, home)
    async with running([*installed.gemini, *setup.flags, "--acp"], setup, work) as agent:
        assert await converse_over_acp(agent, work) == ANSWERS
    assert_asked_once_each(model, "gemini")


@pytest.mark.real
async def test_opencode_gets_the_answer(model, installed, places):
    home, work = places
    setup = environments.opencode(model.base_url, home)
    async with running([*installed.opencode, "acp"], setup, work) as agent:
        assert await converse_over_acp(agent, work) == ANSWERS
    assert_asked_once_each(model, "chat")
