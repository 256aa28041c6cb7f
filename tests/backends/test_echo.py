"""The built-in agent says back what it is told, to the character, and never waits for who does not read."""

import json
import os
import sys
import time

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from actors.errors import Code, Refusal
from actors.messages import Complete, Failed, Image, Message, Options, Prompt, Start, Usage
from actors.outbox import Outbox
from clinvoker.backends import echo as module
from clinvoker.backends.acp import AcpDriver
from clinvoker.backends.echo import Echo
from clinvoker.config.settings import BackendSettings
from tests.backends.harness import Asked, live_link, no_tools, run_turn, text_of

COMMAND = (sys.executable, "-m", "clinvoker.backends.echo")


def driver(*flags):
    settings = BackendSettings(protocol="acp", command=(*COMMAND, *flags))
    return AcpDriver("echo", settings, {**os.environ, "PYTHONPATH": os.getcwd()})  # noqa: PTH109


class Direct:
    """The agent without a process."""

    def __init__(self):
        self.echo = Echo()
        self.last = 0

    def ask(self, method, params=None):
        self.last += 1
        self.tell({"id": self.last, "method": method, "params": params or {}})
        return self.last

    def tell(self, message):
        self.echo.take(json.dumps({"jsonrpc": "2.0", **message}).encode())

    def lines(self):
        out = b""
        while given_now := self.echo.give():
            out += given_now
        return [json.loads(line) for line in out.splitlines()]

    def prompt(self, text, session="s"):
        blocks = [{"type": "text", "text": text}]
        return self.ask("session/prompt", {"sessionId": session, "prompt": blocks})


def chunks(lines):
    return [line["params"]["update"]["content"]["text"] for line in lines if "method" in line]


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_the_chunks_joined_are_the_prompt(text):
    agent = Direct()
    agent.prompt(text)
    *told, end = agent.lines()
    assert "".join(chunks(told)) == text
    assert end["result"]["stopReason"] == "end_turn"


def test_words_come_one_at_a_time_with_the_white_space_before_them():
    agent = Direct()
    agent.prompt("hello  world,\nagain ")
    *told, end = agent.lines()
    assert chunks(told) == ["hello", "  world,", "\nagain "]
    assert end["result"]["usage"] == {"inputTokens": 3, "outputTokens": 3, "totalTokens": 6}


def test_half_a_character_comes_back_as_it_came():
    agent = Direct()
    agent.prompt("a \ud83d b")
    assert "".join(chunks(agent.lines()[:-1])) == "a \ud83d b"


def test_sessions_are_answered_in_turn():
    agent = Direct()
    agent.prompt("a b c", "one")
    agent.prompt("1 2 3", "two")
    assert chunks(agent.lines()) == ["a", "1", " b", " 2", " c", " 3"]


def test_a_batch_is_large_and_bounded():
    agent = Direct()
    agent.prompt("word " * 50_000)
    first = agent.echo.give()
    assert 50_000 < len(first) < 100_000


def test_a_cancelled_answer_ends_at_once():
    agent = Direct()
    request = agent.prompt("word " * 50_000)
    agent.echo.give()
    agent.tell({"method": "session/cancel", "params": {"sessionId": "s"}})
    [end] = agent.lines()
    assert (end["id"], end["result"]["stopReason"]) == (request, "cancelled")


@pytest.mark.parametrize(
    ("line", "code"),
    [
        (b"garbage", -32700),
        (b"[" * 100_000, -32700),
        (b'{"id": 1, "method": "fs/read"}', -32601),
        (b'{"id": 1, "method": "session/set_model", "params": {"sessionId": "s", "modelId": "m"}}', -32601),
        (b'{"id": 1, "method": "session/prompt"}', -32602),
        (b'{"id": 1, "method": "session/prompt", "params": {"sessionId": [], "prompt": 7}}', -32602),
    ],
)
def test_what_it_does_not_know_is_an_error(line, code):
    agent = Direct()
    agent.echo.take(line)
    [answer] = agent.lines()
    assert answer["error"]["code"] == code


@pytest.mark.parametrize(
    "line", [b"{}", b"7", b"null", b'{"method": "session/cancel"}', b'{"method": 1, "id": 1}']
)
def test_what_asks_for_nothing_is_answered_by_nothing(line):
    agent = Direct()
    agent.echo.take(line)
    assert agent.lines() == []


def test_a_second_prompt_in_a_busy_session_is_refused():
    agent = Direct()
    agent.prompt("a b")
    agent.prompt("c")
    errors = [line for line in agent.lines() if "error" in line]
    assert [line["error"]["message"] for line in errors] == ["this session is busy"]


def test_a_wrong_flag_is_told(capsys):
    assert module.main(["--dealy-ms", "1"]) == 2
    assert "usage" in capsys.readouterr().err
    assert module.main(["--version"]) == 0


# As a process, under the driver.


async def test_a_turn_and_the_next_in_one_process(tmp_path):
    async with live_link(driver(), Options(), tmp_path) as live:
        conversation = await live.link.open(Options(workdir=str(tmp_path)), None)
        events = await run_turn(live.link, conversation, "hello world")
        assert events == [
            Start("", str(tmp_path)),
            Message("hello"),
            Message(" world"),
            Complete("end_turn", Usage(input_tokens=2, output_tokens=2)),
        ]
        for prompt in [
            "",
            " \n",
            "/memory show",
            "-x --y",
            "\u2028 caf\u00e9 \U0001f642\u200d\U0001f469 \x00\x1f",
        ]:
            events = await run_turn(live.link, conversation, prompt)
            assert text_of(events).removeprefix("\u200b") == prompt
        assert live.link.unparsed == 0


async def test_a_conversation_is_resumed_in_another_process(tmp_path):
    async with live_link(driver(), Options(), tmp_path) as live:
        conversation = await live.link.open(Options(workdir="/"), None)
    async with live_link(driver(), Options(), tmp_path, conversation) as live:
        assert await live.link.open(Options(workdir="/"), conversation) == conversation
        assert text_of(await run_turn(live.link, conversation, "again")) == "again"


async def test_it_refuses_images_and_models_by_name(tmp_path):
    async with live_link(driver(), Options(), tmp_path) as live:
        with pytest.raises(Refusal) as refused:
            await live.link.open(Options(workdir="/", model="m"), None)
        assert (refused.value.code, refused.value.param) == (Code.UNSUPPORTED, "model")
        conversation = await live.link.open(Options(workdir="/"), None)
        with pytest.raises(Refusal) as refused:
            await run_turn(live.link, conversation, Prompt("x", (Image("image/png", "aGk="),)))
        assert (refused.value.code, refused.value.param) == (Code.UNSUPPORTED, "images")


async def test_a_prompt_of_fifty_thousand_words_is_said_back(tmp_path):
    text = " ".join(f"w{number}" for number in range(50_000))
    async with live_link(driver(), Options(), tmp_path) as live:
        conversation = await live.link.open(Options(workdir="/"), None)
        began = time.process_time()
        events = await run_turn(live.link, conversation, text)
        spent = time.process_time() - began
    assert text_of(events) == text
    assert events[-1].token_usage.output_tokens == 50_000
    assert spent < 1.0  # reading, decoding, and the test's own part


async def test_a_slash_comes_back_as_it_went_and_what_it_cannot_do_is_known(tmp_path):
    echo = driver()
    async with live_link(echo, Options(), tmp_path) as live:
        new = await live.link.open(Options(workdir="/"), None)
        resumed = await live.link.open(Options(workdir="/"), "echo-1-1")
        for conversation in (new, resumed):
            assert text_of(await run_turn(live.link, conversation, "/init $x")) == "/init $x"
    can = echo.capabilities
    assert (can.images, can.model, can.resume) == (False, False, True)


async def test_it_can_be_cancelled_in_mid_answer_while_other_sessions_go_on(tmp_path):
    async with live_link(driver("--delay-ms", "30"), Options(), tmp_path) as live:
        link = live.link
        one, two = [await link.open(Options(workdir="/"), None) for _ in range(2)]
        out = Outbox()
        done = {}
        async with trio.open_nursery() as nursery:

            async def long():
                with trio.move_on_after(0.2) as cut:
                    await link.turn(one, Prompt("word " * 1000), out, Asked(), no_tools)
                done["cut"] = cut.cancelled_caught
                await link.interrupt(one)

            async def short():
                done["short"] = text_of(await run_turn(link, two, "a b c d e f g h i j"))

            nursery.start_soon(long)
            nursery.start_soon(short)
        assert done == {"cut": True, "short": "a b c d e f g h i j"}
        assert not any(isinstance(event, Complete | Failed) for event in await out.take())
        assert text_of(await run_turn(link, one, "again")) == "again"


async def test_a_reader_that_does_not_read_does_not_stop_it_from_listening():
    """Its output fills the pipe; it still takes the cancellation, and what was written ahead is bounded."""
    process = await trio.lowlevel.open_process(COMMAND, stdin=-1, stdout=-1, cwd=os.getcwd())  # noqa: PTH109
    try:
        text = "word " * 100_000

        def line(members):
            return json.dumps({"jsonrpc": "2.0", **members}).encode() + b"\n"

        blocks = [{"type": "text", "text": text}]
        prompt = {"id": 1, "method": "session/prompt", "params": {"sessionId": "s", "prompt": blocks}}
        with trio.fail_after(10):
            await process.stdin.send_all(line(prompt))
            await trio.sleep(0.3)
            await process.stdin.send_all(line({"method": "session/cancel", "params": {"sessionId": "s"}}))
            await trio.sleep(0.1)
            got = b""
            while b'"id":1' not in got:
                got += await process.stdout.receive_some(65536)
        assert b"cancelled" in got
        assert len(got) < 400_000
    finally:
        process.kill()
        await process.wait()
        await process.stdin.aclose()
        await process.stdout.aclose()


async def test_it_is_there_at_once_and_small(tmp_path):
    began = time.perf_counter()
    async with live_link(driver(), Options(), tmp_path) as live:
        ready = time.perf_counter() - began
        status = (await trio.Path(f"/proc/{live.process.pid}/status").read_text()).splitlines()
        [resident] = [int(line.split()[1]) for line in status if line.startswith("VmRSS")]
    assert resident < 16_000
    assert ready < 0.5  # 0.03 s on a quiet machine


async def test_the_end_of_the_input_ends_it():
    with trio.fail_after(5):
        done = await trio.run_process(COMMAND, stdin=b"", capture_stdout=True, cwd=os.getcwd())  # noqa: PTH109
    assert (done.returncode, done.stdout) == (0, b"")
