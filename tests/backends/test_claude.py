"""The claude driver: recorded transcripts through the link, and the real CLI against our fake model."""

import json
import os
import time
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
import trio.testing
from msgspec import UNSET
from msgspec.structs import replace

from actors.driver import LinkClosed
from actors.errors import Code, Refusal
from actors.messages import (
    Complete,
    Failed,
    Image,
    Message,
    Options,
    Prompt,
    Start,
    Thinking,
    ToolResult,
    ToolUse,
    Usage,
)
from actors.outbox import Outbox
from clinvoker.backends.claude import ClaudeDriver
from clinvoker.backends.claude_link import ClaudeLink
from clinvoker.backends.environment import agent_environment
from clinvoker.config.settings import BackendSettings
from tests.backends.harness import Asked, live_link, no_tools, only, run_turn, text_of
from tests.fake_model.server import serve
from tests.support.clis import ensure_installed

RECORDED = Path(__file__).parent / "transcripts" / "claude"
OPUS = "claude-opus-5-5"
START = Start(OPUS, "/ws")
SCHEMA = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}


# Recorded: what the link makes of lines.


class Wire:
    """The agent's end of a link: keeps what was written, answers control requests, plays lines."""

    def __init__(self, **answers):
        self.written = []
        self.answers = answers
        self.link = ClaudeLink(self.send, "the-id", resumed=False)
        self.said = trio.Event()

    async def send(self, data):
        for line in data.splitlines():
            message = json.loads(line)
            self.written.append(message)
            if message["type"] == "control_request":
                answer = self.answers.get(message["request"]["subtype"], {"subtype": "success"})
                answer = {**answer, "request_id": message["request_id"]}
                self.play({"type": "control_response", "response": answer})
            elif message["type"] == "user":
                self.said.set()

    def play(self, *lines):
        for line in lines:
            self.link.feed(line if isinstance(line, bytes) else json.dumps(line).encode())

    async def turn(self, lines, prompt="hi", ask=None, options=None):
        """Run a turn in which the agent says `lines`."""
        await self.link.open(options or Options(workdir="/ws"), None)
        out = Outbox()
        self.said = trio.Event()
        with trio.fail_after(2):
            async with trio.open_nursery() as nursery:
                asked = prompt if isinstance(prompt, Prompt) else Prompt(prompt)
                nursery.start_soon(self.link.turn, "the-id", asked, out, ask or Asked(), no_tools)
                await self.said.wait()
                self.play(*lines)
                await out.wait_ended()
        return await out.take()


def recorded(name):
    return (RECORDED / f"{name}.jsonl").read_bytes().splitlines()


def messages(events):
    return [event.text for event in only(events, Message)]


async def test_a_thinking_turn_is_start_reasoning_text_and_usage():
    assert await Wire().turn(recorded("thinking")) == [
        START,
        *map(Thinking, ("let ", "me ", "think")),
        *map(Message, ("echo:", " [[think]]", " hi")),
        Complete("end_turn", Usage(2733, 3, 11, 0, pytest.approx(0.0109572))),
    ]


async def test_a_tool_that_was_allowed():
    call = {"command": "echo hi-from-tool", "description": "say hi"}
    assert (await Wire().turn(recorded("tool_allowed")))[:-1] == [
        START,
        Message("calling"),
        ToolUse("toolu_11_0", "Bash", call),
        ToolResult("toolu_11_0", "hi-from-tool"),
        Message("\n\ntool-result:"),
        Message(" hi-from-tool"),
    ]


async def test_a_tool_that_was_denied_is_named():
    events = await Wire().turn(recorded("tool_denied"))
    assert [result.is_error for result in only(events, ToolResult)] == [True]
    assert events[-1].denied == ("Bash",)


@pytest.mark.parametrize("name", ["mid_cut", "mid_error"])
async def test_a_stream_that_broke_and_was_told_again_is_read_once(name):
    events = await Wire().turn(recorded(name))
    mark = name.replace("_", ":")
    assert text_of(events) == f"echo: [[{mark}]] one two three four five six"
    assert isinstance(events[-1], Complete)


async def test_a_stream_told_again_in_deltas_is_read_once():
    def delta(text):
        event = {"type": "content_block_delta", "delta": {"type": "text_delta", "text": text}}
        return {"type": "stream_event", "event": event}

    begin = {
        "type": "stream_event",
        "event": {"type": "content_block_start", "content_block": {"type": "text"}},
    }
    whole = {
        "type": "assistant",
        "message": {"model": "m", "content": [{"type": "text", "text": "one two three"}]},
    }
    retry = {"type": "system", "subtype": "api_retry", "retry_delay_ms": 500, "error": "unknown"}
    lines = [begin, delta("one"), delta(" two"), retry, begin, delta("one"), delta(" two three"), whole]
    events = await Wire().turn([*lines, {"type": "result", "subtype": "success"}])
    assert messages(events) == ["one", " two", " three"]


async def test_an_answer_that_goes_on_after_the_token_limit_is_not_set_off():
    text = text_of(await Wire().turn(recorded("max_tokens")))
    assert text.startswith("echo: [[max]] a b cecho: Output token limit hit.")


async def test_the_callers_own_token_limit_is_an_end():
    events = await Wire().turn(recorded("max_tokens"), options=Options(workdir="/ws", max_tokens=5))
    assert text_of(events) == "echo: [[max]] a b c"
    assert events[-1].stop_reason == "max_tokens"


async def test_the_answer_to_a_schema_is_the_structured_output_alone():
    events = await Wire().turn(recorded("schema"), Prompt("hi", schema=SCHEMA))
    assert events[:-1] == [START, Message('{"name":"bob"}')]
    assert events[-1].stop_reason == "end_turn"


async def test_no_structured_output_is_a_failure():
    events = await Wire().turn(recorded("thinking"), Prompt("hi", schema=SCHEMA))
    assert events[-1].code is Code.BACKEND_ERROR


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("auth_missing", Code.NOT_LOGGED_IN),
        ("err_400", Code.BACKEND_ERROR),
        ("err_401", Code.NOT_LOGGED_IN),
        ("err_413", Code.CONTEXT_TOO_LONG),
        ("err_429", Code.BACKEND_RATE_LIMITED),
        ("err_500", Code.BACKEND_ERROR),
        ("err_529", Code.BACKEND_OVERLOADED),
        ("upstream_down", Code.BACKEND_UNREACHABLE),
        ("interrupt_tool", Code.CANCELLED),
    ],
)
async def test_an_error_is_its_code_and_never_an_answer(name, code):
    events = await Wire().turn(recorded(name))
    assert events[-1].code is code
    assert not [event for event in only(events, Message) if "Error" in event.text or "login" in event.text]


async def test_what_a_rate_limit_last_had_the_agent_wait_is_told_at_the_end():
    waits = [
        line["retry_delay_ms"] for line in map(json.loads, recorded("err_429")) if "retry_delay_ms" in line
    ]
    failed = (await Wire().turn(recorded("err_429")))[-1]
    assert (failed.code, failed.retry_after) == (Code.BACKEND_RATE_LIMITED, waits[-1] / 1000)
    for other in ("err_500", "err_529"):
        assert (await Wire().turn(recorded(other)))[-1].retry_after is UNSET


async def test_a_retry_that_will_not_help_is_cut_short_at_once():
    retry = {"type": "system", "subtype": "api_retry", "retry_delay_ms": 63135, "error_status": 429}
    wire = Wire()
    out = Outbox()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(wire.link.turn, "the-id", Prompt("hi"), out, Asked(), no_tools)
        await wire.said.wait()
        wire.play(retry)
        (failed,) = await out.take()
        assert (failed.code, failed.retry_after) == (Code.BACKEND_RATE_LIMITED, pytest.approx(63.135))
        await trio.testing.wait_all_tasks_blocked()
        assert wire.written[-1]["request"]["subtype"] == "interrupt"
        wire.play({"type": "result", "subtype": "error_during_execution", "is_error": True})


async def test_an_unknown_conversation_is_not_found():
    wire = Wire()
    wire.answers = {}
    wire.link = ClaudeLink(wire.send, "x", resumed=True)

    async def dies(_data):
        wire.play(*recorded("resume_missing"))
        wire.link.closed()

    wire.link._control._send = dies
    with pytest.raises(Refusal) as refusal:
        await wire.link.handshake()
    assert refusal.value.code is Code.NOT_FOUND


async def test_a_process_that_ends_in_a_turn_closes_the_link():
    wire = Wire()
    out = Outbox()

    async def turn():
        with pytest.raises(LinkClosed):
            await wire.link.turn("the-id", Prompt("hi"), out, Asked(), no_tools)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(turn)
        await wire.said.wait()
        wire.link.closed()


async def test_a_message_taken_back_before_it_became_a_turn_has_no_result():
    wire = Wire()
    with trio.move_on_after(0.01):
        await wire.link.turn("the-id", Prompt("hi"), Outbox(), Asked(), no_tools)
    wire.answers["interrupt"] = {
        "subtype": "success",
        "response": {"still_queued": [], "cancelled": [wire.written[-1]["uuid"]]},
    }
    with trio.fail_after(1):
        await wire.link.interrupt("the-id")


async def test_late_lines_and_results_of_other_messages_end_nothing():
    wire = Wire()
    await wire.turn(recorded("thinking"))
    wire.play(*recorded("thinking")[:-1])
    stray = {
        "type": "result",
        "subtype": "success",
        "user_message_uuids": ["another"],
        "total_cost_usd": 0.0109572,
    }
    events = await wire.turn([stray, *recorded("thinking")])
    assert text_of(events) == "echo: [[think]] hi"


async def test_a_subagent_speaks_only_to_its_agent():
    lines = [
        line.replace(b'"parent_tool_use_id":null', b'"parent_tool_use_id":"toolu_1"')
        for line in recorded("thinking")
    ]
    assert only(await Wire().turn(lines), Message | Thinking) == []


@pytest.mark.parametrize(
    "line", [b"", b"not json", b"[]", b"1", b"{}", b'{"type": 7}', b"\xff\xfe", b"[" * 100_000]
)
async def test_nonsense_is_counted(line):
    wire = Wire()
    wire.link.feed(line)
    assert wire.link.unparsed == 1


@pytest.mark.parametrize("leave", ["allow", "allow_always", "deny"])
async def test_a_permission_is_asked_and_answered(leave):
    suggestion = {
        "type": "addRules",
        "rules": [{"toolName": "Bash"}],
        "behavior": "allow",
        "destination": "localSettings",
    }
    request = {
        "subtype": "can_use_tool",
        "tool_name": "Bash",
        "input": {"command": "ls"},
        "permission_suggestions": [suggestion],
    }
    wire = Wire()
    asked = Asked(leave)
    answered = trio.Event()

    async def ask(permission):
        answered.set()
        return await asked(permission)

    out = Outbox()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(wire.link.turn, "the-id", Prompt("hi"), out, ask, no_tools)
        await wire.said.wait()
        wire.play({"type": "control_request", "request_id": "r1", "request": request})
        await answered.wait()
        await trio.testing.wait_all_tasks_blocked()
        wire.play({"type": "result", "subtype": "success"})
    answer = wire.written[-1]["response"]
    assert answer["request_id"] == "r1"
    assert answer["response"]["behavior"] == ("deny" if leave == "deny" else "allow")
    rules = answer["response"].get("updatedPermissions")
    assert rules == ([{**suggestion, "destination": "session"}] if leave == "allow_always" else None)
    assert asked.asked[0].options == ("allow", "allow_always", "deny")


async def test_another_schema_in_the_same_conversation_is_refused():
    wire = Wire()
    await wire.turn(recorded("schema"), Prompt("hi", schema=SCHEMA))
    with pytest.raises(Refusal) as refusal:
        await wire.link.turn("the-id", Prompt("hi"), Outbox(), Asked(), no_tools)
    assert (refusal.value.code, refusal.value.param) == (Code.UNSUPPORTED, "schema")


@pytest.mark.slow
async def test_fifty_thousand_deltas_cost_little():
    delta = (
        b'{"type":"stream_event","event":{"type":"content_block_delta","index":0,"delta":{"type":"text_delta",'
        b'"text":" word"}},"session_id":"66a22dd1-943e-46d1-84e1-5b8a3ac2e9b5","parent_tool_use_id":null,'
        b'"uuid":"3d2e349d-5cbe-49ea-9745-551c0220880c","api_message_id":"msg_fake00010"}'
    )
    wire = Wire()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(wire.link.turn, "the-id", Prompt("hi"), Outbox(), Asked(), no_tools)
        await wire.said.wait()
        began = time.process_time()
        for _ in range(50_000):
            wire.link.feed(delta)
        spent = time.process_time() - began
        nursery.cancel_scope.cancel()
    assert spent < 0.3


# The driver: how it launches.


def driver(**settings):
    return ClaudeDriver(
        "claude", BackendSettings(protocol="claude", command=("claude",), **settings), {"PATH": "/bin"}
    )


def test_what_only_a_launch_can_set_is_in_the_launch():
    launch = driver().launch(
        Options(
            sandbox_mode="read-only", max_turns=3, max_tokens=99, ephemeral=True, extra=("--effort=low",)
        ),
        "/scratch",
        "an-id",
    )
    assert {
        "--resume=an-id",
        "--tools=Read,Glob,Grep",
        "--max-turns=3",
        "--no-session-persistence",
        "--effort=low",
    } <= set(launch.argv)
    assert launch.env["CLAUDE_CODE_MAX_OUTPUT_TOKENS"] == "99"
    assert launch.cwd == "/scratch"


def test_the_sandbox_that_claude_does_not_have_is_refused():
    with pytest.raises(Refusal) as refusal:
        driver().launch(Options(sandbox_mode="workspace"), "/scratch", None)
    assert refusal.value.param == "sandbox_mode"


def test_the_users_own_environment_has_the_last_word_on_defaults():
    env = driver(env={"CLAUDE_CODE_MAX_RETRIES": "7"}).launch(Options(), "/scratch", None).env
    assert env["CLAUDE_CODE_MAX_RETRIES"] == "7"


def test_an_agent_inherits_what_is_allowed_and_never_what_is_ours():
    environ = {
        "PATH": "/bin",
        "LC_ALL": "C",
        "https_proxy": "p",
        "ANTHROPIC_API_KEY": "k",
        "SECRET": "s",
        "CLINVK_API_KEY": "s",
        "CLINVOKER_RUN_ID": "s",
        "NOTIFY_SOCKET": "s",
        "LISTEN_FDS": "s",
    }
    settings = BackendSettings(
        protocol="claude",
        command=("claude",),
        env={"OWN": "1", "CLINVK_HOST": "s"},
        env_passthrough=("ANTHROPIC_*", "CLINV*"),
    )
    assert agent_environment(settings, environ, "/scratch") == {
        "PATH": "/bin",
        "LC_ALL": "C",
        "https_proxy": "p",
        "ANTHROPIC_API_KEY": "k",
        "OWN": "1",
        "TERM": "dumb",
        "NO_COLOR": "1",
        "TMPDIR": "/scratch/.tmp",
    }


# Real.

real = pytest.mark.real


@asynccontextmanager
async def real_claude(tmp_path, options=None, resume=None, **env):
    """A live claude whose model is our fake; gives the live link, its conversation and the model's log."""
    home = tmp_path / "home"
    work = tmp_path / "work"
    home.mkdir(exist_ok=True)
    work.mkdir(exist_ok=True)
    options = replace(options or Options(), workdir=str(work))
    failure = None
    async with trio.open_nursery() as nursery:
        model = await nursery.start(serve)
        environ = {
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            "ANTHROPIC_BASE_URL": model.base_url,
            "ANTHROPIC_API_KEY": "fake-key",
            "NO_PROXY": "127.0.0.1",
        }
        settings = BackendSettings(
            protocol="claude",
            command=ensure_installed().claude,
            env_passthrough=("ANTHROPIC_*", "CLAUDE_*"),
            env=env,
        )
        claude = ClaudeDriver("claude", settings, environ)
        try:
            async with live_link(claude, options, tmp_path / "scratch", resume) as live:
                yield live, await live.link.open(options, resume), model
        except Exception as error:  # noqa: BLE001 - raised below, out of the nursery's group
            failure = error
        nursery.cancel_scope.cancel()
    if failure is not None:
        raise failure


def bodies(model, text):
    return [request.body for request in model.requests.of(text)]


@real
async def test_tokens_stream_and_the_second_turn_knows_the_first(tmp_path):
    async with real_claude(tmp_path) as (live, conversation, _):
        events = await run_turn(live.link, conversation, "[[long:20]]")
        assert events[0] == Start(OPUS, str(tmp_path / "work"))
        assert len(messages(events)) == 20
        assert events[-1].token_usage.output_tokens == 20
        assert events[-1].token_usage.cost_usd > 0
        assert events[-1].token_usage.cached_tokens == 11
        events = await run_turn(live.link, conversation, "[[history]]")
        assert text_of(events) == "[[long:20]] | [[history]]"


@real
async def test_what_a_prompt_says_is_text_for_the_model(tmp_path):
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "secret.txt").write_text("TOP-SECRET")
    prompts = [
        "/cost",
        "-p x",
        "\u2028a\u2029\x85b \U0001f642",
        "@secret.txt @/etc/hostname",
        "!ls",
        "x" * 1_000_000,
    ]
    async with real_claude(tmp_path) as (live, conversation, model):
        for prompt in prompts:
            events = await run_turn(live.link, conversation, prompt)
            assert text_of(events).split(": ", 1)[1].lstrip("\n") == prompt
        events = await run_turn(live.link, conversation, "[[unicode]]")
        assert "\u2028line-sep\u2029para-sep" in text_of(events)
        events = await run_turn(live.link, conversation, "[[surrogates]]")
        assert text_of(events) == "pair \U0001f642 joined"
        events = await run_turn(live.link, conversation, "[[think]] [[say:so]]")
        assert "".join(event.text for event in only(events, Thinking)) == "let me think"
        assert "TOP-SECRET" not in json.dumps(model.requests[-1].body)


BASH = '[[tool:Bash {"command":"echo made > made.txt && cat made.txt","description":"x"}]]'


@real
@pytest.mark.parametrize(("mode", "answer"), [("always", "allow"), ("default", "deny"), ("none", "deny")])
async def test_a_tool_runs_only_with_leave(tmp_path, mode, answer):
    async with real_claude(tmp_path, Options(approval_mode=mode)) as (live, conversation, _):
        ask = Asked(answer)
        events = await run_turn(live.link, conversation, BASH, ask)
        (result,) = only(events, ToolResult)
        assert (tmp_path / "work" / "made.txt").exists() == (answer == "allow")
        assert result.is_error == (answer == "deny")
        assert events[-1].denied == (() if answer == "allow" else ("Bash",))
        assert len(ask.asked) == (0 if mode == "none" else 1)


@real
async def test_allow_always_holds_for_the_conversation_and_changes_no_file(tmp_path):
    async with real_claude(tmp_path, Options(approval_mode="always")) as (live, conversation, _):
        ask = Asked("allow_always")
        command = '[[tool:Bash {"command":"touch made.txt","description":"x"}]]'
        for number in (1, 2):
            await run_turn(live.link, conversation, f"{number} {command}", ask)
        assert len(ask.asked) == 1
        assert not (tmp_path / "work" / ".claude").exists()


@real
async def test_an_interrupt_leaves_no_tool_and_an_agent_that_goes_on(tmp_path):
    async with real_claude(tmp_path) as (live, conversation, _):
        out = Outbox()
        prompt = Prompt('[[tool:Bash {"command":"sleep 300","description":"x","timeout":400000}]]')
        async with trio.open_nursery() as nursery:
            nursery.start_soon(live.link.turn, conversation, prompt, out, Asked("allow"), no_tools)
            with trio.fail_after(10):
                while not live.children():
                    await trio.sleep(0.05)
            nursery.cancel_scope.cancel()
        with trio.fail_after(2):
            await live.link.interrupt(conversation)
            while live.children():
                await trio.sleep(0.05)
        assert text_of(await run_turn(live.link, conversation, "[[say:alive]]")) == "alive"


@real
@pytest.mark.parametrize("wait", [0, 0.005, 0.05])
async def test_an_interrupt_at_once_leaves_an_agent_that_goes_on(tmp_path, wait):
    async with real_claude(tmp_path) as (live, conversation, _):
        with trio.move_on_after(wait):
            await live.link.turn(
                conversation, Prompt("[[long:500]] [[slow:50]]"), Outbox(), Asked(), no_tools
            )
        with trio.fail_after(2):
            await live.link.interrupt(conversation)
        assert text_of(await run_turn(live.link, conversation, "[[say:alive]]")) == "alive"


@real
async def test_each_fault_upstream_is_its_code_and_soon(tmp_path):
    expected = {
        "[[err:400]]": Code.BACKEND_ERROR,
        "[[err:401]]": Code.NOT_LOGGED_IN,
        "[[err:403]]": Code.NOT_LOGGED_IN,
        "[[err:404]]": Code.MODEL_NOT_FOUND,
        "[[err:413]]": Code.CONTEXT_TOO_LONG,
        "[[err:429]]": Code.BACKEND_RATE_LIMITED,
        "[[err:429]] [[retryafter:2]]": Code.BACKEND_RATE_LIMITED,
        "[[err:429]] [[retryafter:60]]": Code.BACKEND_RATE_LIMITED,
        "[[err:429]] [[retryafter:300]]": Code.BACKEND_RATE_LIMITED,
        "[[err:500]]": Code.BACKEND_ERROR,
        "[[err:529]]": Code.BACKEND_OVERLOADED,
        "[[errtype:context]]": Code.CONTEXT_TOO_LONG,
        "[[refuse]]": Code.REFUSED,
    }
    found = {}
    async with real_claude(tmp_path) as (live, conversation, _):
        for prompt in expected:
            began = trio.current_time()
            events = await run_turn(live.link, conversation, prompt)
            assert trio.current_time() - began < (6 if "retryafter:2" in prompt else 3), prompt
            found[prompt] = events[-1].code
            assert "API Error" not in text_of(events)
            if "retryafter:300" in prompt:
                assert events[-1].retry_after is UNSET  # the CLI gives up at once, and does not say why
            elif "retryafter" in prompt:
                assert events[-1].retry_after >= int(prompt.rpartition(":")[2].rstrip("]"))
        assert found == expected
        assert text_of(await run_turn(live.link, conversation, "[[say:alive]]")) == "alive"


@real
async def test_a_model_that_cannot_be_reached(tmp_path):
    async with real_claude(tmp_path, ANTHROPIC_BASE_URL="http://127.0.0.1:9") as (live, conversation, _):
        events = await run_turn(live.link, conversation, "hi")
        assert events[-1].code is Code.BACKEND_UNREACHABLE


@real
async def test_no_login_is_told(tmp_path):
    async with real_claude(tmp_path, ANTHROPIC_API_KEY="") as (live, conversation, _):
        events = await run_turn(live.link, conversation, "hi")
        assert isinstance(events[-1], Failed)
        assert events[-1].code is Code.NOT_LOGGED_IN


@real
async def test_retries_and_odd_ends(tmp_path):
    async with real_claude(tmp_path) as (live, conversation, _):
        for mark in ("mid:cut", "mid:error", "mid:erroronce"):
            events = await run_turn(live.link, conversation, f"[[{mark}]] a b c d e f")
            assert text_of(events) == f"echo: [[{mark}]] a b c d e f"
        events = await run_turn(live.link, conversation, "[[err:429:1]] recovered")
        assert text_of(events) == "echo: [[err:429:1]] recovered"
        events = await run_turn(live.link, conversation, "[[empty]]")
        assert events[-1].stop_reason == "end_turn"


@real
async def test_limits_of_the_caller_end_the_turn_well(tmp_path):
    options = Options(max_turns=1, max_tokens=500)
    async with real_claude(tmp_path, options) as (live, conversation, model):
        events = await run_turn(live.link, conversation, BASH, Asked("allow"))
        assert events[-1].stop_reason == "max_turns"
        events = await run_turn(live.link, conversation, "[[max]] a b")
        assert events[-1].stop_reason == "max_tokens"
        assert text_of(events) == "echo: [[max]] a b"
        assert bodies(model, "[[max]]")[0]["max_tokens"] == 500
        assert text_of(await run_turn(live.link, conversation, "[[say:alive]]")) == "alive"


@real
async def test_an_image_reaches_the_model(tmp_path):
    pixel = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
    async with real_claude(tmp_path) as (live, conversation, model):
        await run_turn(live.link, conversation, Prompt("look", (Image("image/png", pixel),)))
        assert '"image/png"' in json.dumps(model.requests[-1].body["messages"])


@real
async def test_system_prompt_model_and_schema_reach_the_model(tmp_path):
    options = Options(model="claude-haiku-4-5", system_prompt="SAY-ARRR")
    async with real_claude(tmp_path, options) as (live, conversation, model):
        events = await run_turn(live.link, conversation, Prompt('[[json:{"name":"zed"}]]', schema=SCHEMA))
        assert events[0].model == "claude-haiku-4-5"
        assert text_of(events) == '{"name":"zed"}'
        assert only(events, ToolUse | ToolResult) == []
        (sent,) = [body for body in bodies(model, "zed") if "SAY-ARRR" in json.dumps(body["system"])]
        assert sent["model"] == "claude-haiku-4-5"
        assert {"StructuredOutput", "Bash"} <= {tool["name"] for tool in sent["tools"]}


@real
async def test_a_read_only_agent_has_only_reading_tools(tmp_path):
    async with real_claude(tmp_path, Options(sandbox_mode="read-only")) as (live, conversation, model):
        events = await run_turn(live.link, conversation, BASH, Asked("allow"))
        assert not (tmp_path / "work" / "made.txt").exists()
        assert only(events, ToolResult)[0].is_error
        tools = {tool["name"] for tool in bodies(model, "[[tool")[0]["tools"]}
        assert tools - {"DeferredToolPlaceholder"} == {"Read", "Glob", "Grep"}


@real
async def test_a_conversation_is_resumed_by_its_id_in_a_new_process(tmp_path):
    async with real_claude(tmp_path) as (live, conversation, _):
        await run_turn(live.link, conversation, "remember me")
    async with real_claude(tmp_path, resume=conversation) as (live, resumed, _):
        assert resumed == conversation
        events = await run_turn(live.link, resumed, "[[history]]")
        assert text_of(events) == "remember me | [[history]]"
    with pytest.raises(Refusal) as refusal:
        async with real_claude(tmp_path, resume="9d2f24a9-c903-40c2-9c6e-c417ded8ea24"):
            pass
    assert refusal.value.code is Code.NOT_FOUND
