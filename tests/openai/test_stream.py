"""Streamed chat completions."""

import json
from functools import partial

import anthropic
import openai
import pytest

from tests.openai.support import CHAT, ask, read
from tests.support.daemon import wait_until


def test_a_stream_has_a_role_then_pieces_then_a_reason(scene):
    text, chunks = read(scene.chat(model="scripted", messages=ask("one two three"), stream=True))
    assert text == "one two three"
    assert len({(chunk.id, chunk.created, chunk.model, chunk.object) for chunk in chunks}) == 1
    assert chunks[0].object == "chat.completion.chunk"
    assert (chunks[0].choices[0].delta.role, chunks[0].choices[0].delta.content) == ("assistant", "")
    assert [chunk.choices[0].delta.content for chunk in chunks[1:-1]] == ["one", " two", " three"]
    assert [chunk.choices[0].finish_reason for chunk in chunks] == [None] * (len(chunks) - 1) + ["stop"]
    assert all(chunk.usage is None for chunk in chunks)


def test_usage_comes_in_one_more_chunk_where_it_was_asked_for(scene):
    options = {"include_usage": True}
    _, chunks = read(scene.chat(model="echo", messages=ask("a b"), stream=True, stream_options=options))
    assert [bool(chunk.choices) for chunk in chunks] == [True] * (len(chunks) - 1) + [False]
    assert [chunk.usage for chunk in chunks[:-1]] == [None] * (len(chunks) - 1)
    assert chunks[-1].usage.total_tokens == 4


@pytest.mark.parametrize("options", [None, {}, {"include_usage": False}])
async def test_the_raw_frames_are_what_every_parser_takes(scene, options):
    body = {"model": "scripted", "messages": ask("one two"), "stream": True, "stream_options": options}
    answer = await scene.client.call("POST", CHAT, body)
    assert answer.headers["content-type"] == "text/event-stream"
    assert answer.headers["x-clinvoker-run"].startswith("run_")
    *frames, done, rest = answer.body.split(b"\n\n")
    assert (done, rest) == (b"data: [DONE]", b"")
    for frame in frames:
        assert frame.startswith(b"data: {")
        assert b"\n" not in frame
        chunk = json.loads(frame[6:])
        assert len(chunk["choices"]) == 1
        assert "usage" not in chunk


def test_silence_is_filled_with_comments_that_no_parser_stumbles_over(quiet):
    text, _ = read(
        quiet.chat(model="scripted", messages=ask("one{{wait:0.4}} two{{wait:0.4}} three"), stream=True)
    )
    assert text == "one two three"


async def test_the_comments_have_no_blank_line_and_nothing_has_an_id(quiet):
    body = {"model": "scripted", "messages": ask("one{{wait:0.5}} two"), "stream": True}
    answer = await quiet.client.call("POST", CHAT, body)
    assert b": ka\n" in answer.body
    assert b": ka\n\n" not in answer.body
    assert b"id: " not in answer.body.replace(b'"id"', b"")


def test_a_failure_after_the_first_piece_is_told_in_the_stream(scene):
    with pytest.raises(openai.APIError, match="no more") as failed:
        for _ in scene.chat(model="scripted", messages=ask("one two {{error:1,no more}}"), stream=True):
            pass
    assert failed.value.code == "backend_error"
    assert failed.value.type == "server_error"


async def test_a_stream_that_fails_has_no_end(scene):
    body = {"model": "scripted", "messages": ask("one two {{error:1,no more}}"), "stream": True}
    async with scene.client.open("POST", CHAT, body) as incoming:
        answer = await incoming.whole()
    assert incoming.cut
    assert b"[DONE]" not in answer.body
    assert json.loads(answer.body.split(b"\n\n")[-2][6:])["error"]["message"] == "no more"
    assert not scene.daemon.logged("the app failed")


def test_a_failure_before_the_first_piece_is_the_requests_answer(scene):
    with pytest.raises(openai.APIStatusError) as failed:
        scene.chat(model="scripted", messages=ask("{{error:1,not at all}}"), stream=True)
    assert failed.value.status_code == 502
    assert failed.value.response.headers["x-should-retry"] == "false"


def test_a_stream_is_cut_at_a_stop_sequence(scene):
    messages = ask("one two ST{{wait:0.05}}OP three{{wait:60}}")
    text, chunks = read(scene.chat(model="scripted", messages=messages, stream=True, stop="STOP"))
    assert text == "one two "
    assert chunks[-1].choices[0].finish_reason == "stop"


def test_several_answers_carry_their_index(scene):
    _, chunks = read(scene.chat(model="echo", messages=ask("a b"), stream=True, n=2))
    texts = {0: "", 1: ""}
    for chunk in chunks:
        [choice] = chunk.choices
        texts[choice.index] += choice.delta.content or ""
    assert texts == {0: "a b", 1: "a b"}


def test_the_streaming_helper_takes_it(scene):
    with scene.sdk.chat.completions.stream(model="echo", messages=ask("a b c")) as stream:
        stream.until_done()
        assert stream.get_final_completion().choices[0].message.content == "a b c"


def test_leaving_a_stream_ends_the_agents_turn(scene):
    with scene.chat(model="scripted", messages=ask("gone{{wait:60}}"), stream=True) as stream:
        next(stream)
        run = stream.response.headers["x-clinvoker-run"]
    ended = partial(scene.daemon.logged, "run ended")
    wait_until(lambda: any(record["run_id"] == run for record in ended()), 5)


# Whole answers that take long.


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/openai/v1/chat/completions", {"messages": ask("one{{wait:0.5}} two")}),
        ("/openai/v1/completions", {"prompt": "one{{wait:0.5}} two"}),
        ("/openai/v1/responses", {"input": "one{{wait:0.5}} two"}),
        ("/anthropic/v1/messages", {"messages": ask("one{{wait:0.5}} two"), "max_tokens": 9}),
    ],
)
async def test_a_whole_answer_that_takes_long_begins_with_blanks(quiet, path, body):
    answer = await quiet.client.call("POST", path, {"model": "scripted", **body})
    assert answer.status == 200
    assert answer.body.startswith(b"  ")
    assert "two" in json.dumps(answer.json)


def test_the_sdk_reads_a_whole_answer_after_blanks(quiet):
    answer = quiet.chat(model="scripted", messages=ask("one{{wait:0.5}} two"))
    assert answer.choices[0].message.content == "one two"


def test_a_failure_after_blanks_is_no_answer_to_the_sdk(quiet):
    with pytest.raises(openai.APIConnectionError):
        quiet.chat(model="scripted", messages=ask("one{{wait:0.5}}{{error:1,no more}}"))


@pytest.mark.parametrize(
    ("kind", "path", "create"),
    [
        (openai.OpenAI, "/openai/v1", lambda sdk: sdk.chat.completions.create),
        (anthropic.Anthropic, "/anthropic", lambda sdk: partial(sdk.messages.create, max_tokens=9)),
    ],
)
def test_an_sdks_next_attempt_is_told_the_failure_and_nothing_is_done_twice(quiet, kind, path, create):
    before = len(quiet.daemon.logged("run ended"))
    messages = ask("one{{wait:0.5}}{{error:1,no more}}")
    with kind(base_url=f"http://127.0.0.1:{quiet.client.port}{path}", api_key="any", timeout=20) as sdk:
        with pytest.raises((openai.APIStatusError, anthropic.APIStatusError), match="no more") as failed:
            create(sdk)(model="scripted", messages=messages)
    assert failed.value.status_code == 502
    assert failed.value.response.headers["x-should-retry"] == "false"
    assert len(quiet.daemon.logged("run ended")) == before + 1


def test_a_failure_before_them_has_its_status(quiet):
    with pytest.raises(openai.InternalServerError, match="no more") as failed:
        quiet.chat(model="scripted", messages=ask("{{error:1,no more}}"))
    assert failed.value.status_code == 502
