"""The real codex against our own model server: one process per test, on loopback."""

import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import trio

from actors.driver import Send
from actors.errors import Code, Refusal
from actors.launch import Launch
from actors.messages import Complete, Failed, Image, Message, Options, Prompt, Start, Thinking, ToolUse
from actors.outbox import Outbox
from clinvoker.backends.codex import CodexDriver
from clinvoker.backends.codex_link import CodexLink
from clinvoker.config.settings import BackendSettings
from tests.backends.harness import Asked, LiveLink, live_link, no_tools, only, run_turn, text_of
from tests.fake_model import FakeModel, serve
from tests.fake_model.reply import UNICODE
from tests.support import environments
from tests.support.clis import ensure_installed

pytestmark = pytest.mark.real

# Codex leaves out, without a word, a picture that it cannot read.
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
TOUCH = '[[tool:exec_command {"cmd":"touch made && echo done"}]]'
SLEEP = '[[tool:exec_command {"cmd":"sleep 60","yield_time_ms":30000}]]'
ASKING = {"approval_mode": "always", "sandbox_mode": "workspace"}
FREE = {"approval_mode": "none", "sandbox_mode": "full"}


@dataclass
class Codex:
    """A codex set up for the fake model, and where its conversations live."""

    model: FakeModel
    home: Path

    def driver(
        self, *, retries: int = 1, flags: tuple[str, ...] = (), base_url: str = "", patience_s: float = 10
    ) -> CodexDriver:
        setup = environments.codex(base_url or self.model.base_url, self.home / "home", retries=retries)
        settings = BackendSettings(
            protocol="codex",
            command=ensure_installed().codex,
            extra_flags=(*setup.flags, *flags),
            env=setup.env,
        )

        class Codex(CodexDriver):
            def link(self, send: Send, launch: Launch) -> CodexLink:
                assert isinstance(super().link(send, launch), CodexLink)
                return CodexLink(send, has_key=False, patience_s=patience_s)

        return Codex("codex", settings, {})

    def options(self, **options: Any) -> Options:
        workdir = self.home / "work"
        workdir.mkdir(exist_ok=True)
        return Options(workdir=str(workdir), **options)

    @asynccontextmanager
    async def live(self, **settings: Any) -> AsyncIterator[LiveLink]:
        driver = self.driver(**settings)
        async with live_link(driver, Options(), self.home / f"scratch-{time.monotonic_ns()}") as live:
            yield live

    async def turn(self, prompt: Prompt | str, ask: Asked | None = None, **options: Any) -> list[Any]:
        """One turn of a new thread in a new process."""
        async with self.live() as live:
            conversation = await live.link.open(self.options(ephemeral=True, **options), None)
            return await run_turn(live.link, conversation, prompt, ask)


@pytest.fixture
async def codex(tmp_path: Path, nursery: trio.Nursery):
    return Codex(await nursery.start(serve), tmp_path)


async def test_tokens_stream_and_the_second_turn_knows_the_first(codex):
    async with codex.live() as live:
        conversation = await live.link.open(codex.options(), None)
        events = await run_turn(live.link, conversation, "one two three")
        assert events[:-1] == [
            Start(environments.CODEX_MODEL, str(codex.home / "work")),
            *map(Message, ("echo:", " one", " two", " three")),
        ]
        assert events[-1].stop_reason == "end_turn"
        assert events[-1].token_usage.output_tokens == 4
        second = await run_turn(live.link, conversation, "four [[history]]")
        assert text_of(second) == "one two three | four [[history]]"
        assert second[-1].token_usage.output_tokens < 12
        assert live.link.unparsed == 0


async def test_threads_run_at_once_in_one_process(codex):
    texts: dict[int, str] = {}
    async with codex.live() as live:

        async def talk(number: int) -> None:
            conversation = await live.link.open(codex.options(ephemeral=True), None)
            texts[number] = text_of(
                await run_turn(live.link, conversation, f"[[slow:60]] a b c d e {number}")
            )

        begun = time.monotonic()
        async with trio.open_nursery() as nursery:
            for number in range(4):
                nursery.start_soon(talk, number)
        assert time.monotonic() - begun < 1.2
    assert texts == {number: f"echo: [[slow:60]] a b c d e {number}" for number in range(4)}


async def test_a_conversation_goes_on_in_another_process(codex):
    async with codex.live() as first, codex.live() as second:
        conversation = await first.link.open(codex.options(), None)
        await run_turn(first.link, conversation, "first")
        with pytest.raises(Refusal) as busy:
            await second.link.open(codex.options(), conversation)
        assert busy.value.code == Code.SESSION_BUSY
        await first.link.close(conversation)
        assert await second.link.open(codex.options(), conversation) == conversation
        events = await run_turn(second.link, conversation, "second [[history]]")
        assert text_of(events) == "first | second [[history]]"
        assert events[-1].token_usage.output_tokens == 4
        for unknown in ("01a20b45-bed6-7bf0-8768-0649d4621e2e", "nonsense", "--help"):
            with pytest.raises(Refusal) as missing:
                await second.link.open(codex.options(), unknown)
            assert missing.value.code == Code.NOT_FOUND


async def test_reasoning_is_shown(codex):
    events = await codex.turn("hi [[think:let me think]]")
    assert "".join(event.text for event in only(events, Thinking)) == "let me think"


@pytest.mark.parametrize(("answer", "made"), [("allow", True), ("deny", False)])
async def test_a_command_asks_leave(codex, answer, made):
    ask = Asked(answer)
    events = await codex.turn(TOUCH, ask, **ASKING)
    assert [asked.tool for asked in ask.asked] == ["command_execution"]
    assert [use.name for use in only(events, ToolUse)] == ["command_execution"]
    assert (codex.home / "work" / "made").exists() is made
    assert isinstance(events[-1], Complete)
    assert events[-1].denied == (() if made else ("command_execution",))


async def test_what_would_ask_is_never_asked_with_mode_none(codex):
    ask = Asked("allow")
    escalate = TOUCH.replace("}]]", ',"sandbox_permissions":"require_escalated","justification":"x"}]]')
    events = await codex.turn(escalate, ask, approval_mode="none", sandbox_mode="read-only")
    assert ask.asked == []
    assert not (codex.home / "work" / "made").exists()
    assert isinstance(events[-1], Complete)
    await codex.turn(escalate, ask, approval_mode="auto", sandbox_mode="read-only")
    assert (codex.home / "work" / "made").exists()


async def gone(live: LiveLink) -> None:
    """Wait for the end of every tool: codex kills before it answers, but does not wait for the death."""
    with trio.fail_after(1):
        while live.children():
            await trio.sleep(0.01)


async def interrupted(live: LiveLink, conversation: str, prompt: str, *, after: type[Any]) -> None:
    """Begin a turn, leave it once it has shown an event of that type, and interrupt."""
    out = Outbox()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(live.link.turn, conversation, Prompt(prompt), out, Asked(), no_tools)
        with trio.fail_after(10):
            while not any(isinstance(event, after) for event in await out.take()):
                pass
        nursery.cancel_scope.cancel()
    with trio.fail_after(2):
        await live.link.interrupt(conversation)


async def test_an_interrupted_tool_is_gone_and_the_thread_goes_on(codex):
    async with codex.live() as live:
        conversation = await live.link.open(codex.options(**FREE), None)
        await interrupted(live, conversation, SLEEP, after=ToolUse)
        await gone(live)
        await interrupted(live, conversation, "[[slow:500]] a b c d", after=Message)
        assert text_of(await run_turn(live.link, conversation, "still there?")) == "echo: still there?"


async def test_an_interruption_before_the_beginning_is_one(codex):
    async with codex.live() as live:
        conversation = await live.link.open(codex.options(), None)
        for moment in (0.0, 0.001, 0.005, 0.01):
            with trio.move_on_after(moment):
                await live.link.turn(conversation, Prompt("[[slow:500]] a b"), Outbox(), Asked(), no_tools)
            with trio.fail_after(2):
                await live.link.interrupt(conversation)
        assert text_of(await run_turn(live.link, conversation, "still there?")) == "echo: still there?"


async def test_an_interruption_while_leave_is_asked_ends_the_turn(codex):
    async with codex.live() as live:
        conversation = await live.link.open(codex.options(**ASKING), None)
        asked = trio.Event()

        async def never(_permission: object) -> Any:
            asked.set()
            await trio.sleep_forever()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(live.link.turn, conversation, Prompt(TOUCH), Outbox(), never, no_tools)
            with trio.fail_after(10):
                await asked.wait()
            nursery.cancel_scope.cancel()
        with trio.fail_after(2):
            await live.link.interrupt(conversation)
        assert not (codex.home / "work" / "made").exists()
        assert text_of(await run_turn(live.link, conversation, "on")) == "echo: on"


async def test_a_command_left_in_the_background_ends_with_its_turn(codex):
    async with codex.live() as live:
        conversation = await live.link.open(codex.options(**FREE), None)
        await run_turn(live.link, conversation, SLEEP.replace("30000", "250"))
        await gone(live)


@pytest.mark.parametrize(
    ("marks", "code"),
    [
        ("[[err:400]]", Code.BACKEND_ERROR),
        ("[[err:401]]", Code.NOT_LOGGED_IN),
        ("[[err:403]]", Code.NOT_LOGGED_IN),
        ("[[err:404]]", Code.MODEL_NOT_FOUND),
        ("[[err:413]]", Code.CONTEXT_TOO_LONG),
        ("[[err:429]]", Code.BACKEND_RATE_LIMITED),
        ("[[err:500]]", Code.BACKEND_ERROR),
        ("[[err:503]]", Code.BACKEND_OVERLOADED),
        ("[[err:529]]", Code.BACKEND_OVERLOADED),
        ("[[errtype:context]]", Code.CONTEXT_TOO_LONG),
        ("[[mid:cutalways]]", Code.BACKEND_UNREACHABLE),
        ("[[refuse]]", Code.REFUSED),
    ],
)
async def test_every_fault_of_the_model_has_its_code_soon(codex, marks, code):
    begun = time.monotonic()
    events = await codex.turn(f"x {marks}")
    assert isinstance(events[-1], Failed)
    assert events[-1].code == code
    assert time.monotonic() - begun < 3


@pytest.mark.parametrize("marks", ["[[err:401]]", "[[err:403]]", "[[refuse]]"])
async def test_a_fault_that_stays_is_not_retried(codex, marks):
    begun = time.monotonic()
    async with codex.live(retries=20) as live:
        conversation = await live.link.open(codex.options(ephemeral=True), None)
        events = await run_turn(live.link, conversation, f"x {marks}")
        assert isinstance(events[-1], Failed)
        assert text_of(await run_turn(live.link, conversation, "on")) == "echo: on"
    assert len(codex.model.requests) <= 3
    assert time.monotonic() - begun < 3


@pytest.mark.parametrize(
    ("marks", "base_url", "code"),
    [
        ("[[err:429]][[retryafter:30]]", "", Code.BACKEND_RATE_LIMITED),
        ("[[err:503]]", "", Code.BACKEND_OVERLOADED),
        ("", "http://127.0.0.1:9", Code.BACKEND_UNREACHABLE),
    ],
)
async def test_patience_with_a_fault_that_may_pass_ends(codex, marks, base_url, code):
    begun = time.monotonic()
    # As it is by default: many retries. Here each of them is told.
    told = ("-c", "model_providers.fake.request_max_retries=0")
    async with codex.live(retries=50, flags=told, base_url=base_url, patience_s=0.5) as live:
        conversation = await live.link.open(codex.options(ephemeral=True), None)
        events = await run_turn(live.link, conversation, f"x {marks}")
        assert isinstance(events[-1], Failed)
        assert events[-1].code == code
    assert time.monotonic() - begun < 3


async def test_a_connection_that_is_refused_does_not_hang_the_turn(codex):
    async with codex.live(base_url="http://127.0.0.1:9") as live:
        conversation = await live.link.open(codex.options(ephemeral=True), None)
        events = await run_turn(live.link, conversation, "x", seconds=5)
    assert events[-1].code == Code.BACKEND_UNREACHABLE


@pytest.mark.parametrize("mark", ["[[mid:cut]]", "[[mid:erroronce]]"])
async def test_a_retry_says_nothing_twice(codex, mark):
    events = await codex.turn(f"one two {mark}")
    assert text_of(events) == f"echo: one two {mark}"
    assert isinstance(events[-1], Complete)


@pytest.mark.parametrize(
    "text", ["/help me", "--version", "-", "@file", 'naïve 日本 \u2028 \U0001f642 \x85 \\ " end', "\n \n x"]
)
async def test_a_prompt_is_text_whatever_it_looks_like(codex, text):
    await codex.turn(text)
    assert codex.model.requests[-1].text == text


async def test_more_than_a_mebibyte_is_too_long(codex):
    [failed] = await codex.turn("x" * (1024 * 1024 + 1))
    assert failed.code == Code.CONTEXT_TOO_LONG


async def test_what_the_model_says_in_half_characters_is_said_once(codex):
    assert text_of(await codex.turn("[[surrogates]]")).count("pair") == 1


async def test_a_megabyte_goes_through(codex):
    text = "x" * 1_000_000
    events = await codex.turn(f"{text}[[say:done]]")
    assert text_of(events) == "done"
    assert codex.model.requests[-1].text.startswith(text)


async def test_an_answer_may_be_empty_or_of_any_characters(codex):
    nothing = await codex.turn("[[empty]]")
    assert [type(event) for event in nothing] == [Start, Complete]
    assert text_of(await codex.turn("[[unicode]]")) == UNICODE


async def test_the_limit_of_output_is_a_way_to_end(codex):
    events = await codex.turn("x [[max]]")
    assert (text_of(events), events[-1].stop_reason) == ("echo: x [[max]]", "max_tokens")


async def test_everything_asked_for_reaches_the_model(codex):
    schema = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}
    await codex.turn(
        Prompt("look", images=(Image("image/png", PIXEL),), schema=schema),
        model="fake-model",
        system_prompt="SPEAK LATIN",
        extra=("-c=model_reasoning_effort=high",),
    )
    body = codex.model.requests[-1].body
    assert body["model"] == "fake-model"
    assert body["text"]["format"]["schema"] == schema
    spoken = json.dumps(body["input"])
    assert "SPEAK LATIN" in spoken
    assert f"data:image/png;base64,{PIXEL}" in spoken
