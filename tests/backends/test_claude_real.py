"""The claude driver with the real CLI, against our fake model."""

import json
import os
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing
from msgspec import UNSET
from msgspec.structs import replace

from actors.errors import Code, Refusal
from actors.messages import Failed, Image, Options, Prompt, Start, Thinking, ToolResult, ToolUse
from actors.outbox import Outbox
from clinvoker.backends.claude import ClaudeDriver
from clinvoker.config.settings import BackendSettings
from tests.backends.claude_wire import OPUS, SCHEMA, messages
from tests.backends.harness import Asked, live_link, no_tools, only, run_turn, text_of
from tests.fake_model.server import serve
from tests.support.clis import ensure_installed

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
