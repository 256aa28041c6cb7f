"""What users of the Python SDK do: plain, streamed, failing, at length."""

import time
from concurrent.futures import ThreadPoolExecutor

import anthropic
import pytest
from anthropic.types import TextBlock

from tests.anthropic.conftest import KEY
from tests.anthropic.test_reading import PICTURE, SCHEMA


def user(content):
    return [{"role": "user", "content": content}]


def test_a_message_is_answered(ask):
    message = ask("hello there world")
    assert message.content == [TextBlock(type="text", text="hello there world")]
    assert (message.role, message.type, message.stop_reason) == ("assistant", "message", "end_turn")
    assert message.stop_sequence is None
    assert message.id.startswith("msg_")
    assert message.usage.input_tokens == message.usage.output_tokens == 3
    assert message._request_id.startswith("req_")


def test_a_stream_is_the_message_piece_by_piece(sdk):
    with sdk.messages.stream(model="echo", max_tokens=9, messages=user("one two three")) as stream:
        events = list(stream)
        final = stream.get_final_message()
    pieces = [event.delta.text for event in events if event.type == "content_block_delta"]
    assert pieces == ["one", " two", " three"]
    assert [block.text for block in final.content] == ["one two three"]
    assert final.stop_reason == "end_turn"
    assert final.usage.output_tokens == 3
    assert stream.response.headers["content-type"].startswith("text/event-stream")
    assert stream.request_id.startswith("req_")


def test_a_raw_stream_has_the_official_events_in_their_order(sdk):
    events = sdk.messages.create(model="echo", max_tokens=9, messages=user("a b"), stream=True)
    assert [event.type for event in events] == [
        "message_start",
        "content_block_start",
        "content_block_delta",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]


@pytest.mark.parametrize("path", ["", "/v1", "/v1/", "/"])
def test_the_base_url_works_with_and_without_its_version(base, path):
    with anthropic.Anthropic(base_url=base + path.rstrip("/"), api_key=KEY) as sdk:
        assert sdk.messages.create(model="echo", max_tokens=9, messages=user("hi")).content[0].text == "hi"
        assert sdk.models.retrieve("echo").id == "echo"
        assert sdk.messages.count_tokens(model="echo", messages=user("hi")).input_tokens > 0


def test_the_beta_client_is_served_too(sdk):
    message = sdk.beta.messages.create(
        model="echo", max_tokens=9, messages=user("hi"), betas=["something-2027-01-01"]
    )
    assert message.content[0].text == "hi"


def test_no_version_and_no_field_is_too_new(sdk):
    message = sdk.messages.create(
        model="echo",
        max_tokens=9,
        messages=user("hi"),
        metadata={"user_id": "u"},
        thinking={"type": "enabled", "budget_tokens": 1024},
        service_tier="auto",
        extra_body={"temperature": 0.5, "top_p": 1, "hologram": {"depth": [3]}},
        extra_headers={"anthropic-version": "2099-01-01", "anthropic-beta": "a,b"},
    )
    assert message.content[0].text == "hi"


async def test_the_asynchronous_client_is_served_too(base):
    async with anthropic.AsyncAnthropic(base_url=base, api_key=KEY) as sdk:
        async with sdk.messages.stream(model="echo", max_tokens=9, messages=user("a b c")) as stream:
            assert [text async for text in stream.text_stream] == ["a", " b", " c"]


def test_either_way_to_give_the_key_is_taken_and_a_wrong_one_is_not(base):
    for key in ({"api_key": KEY}, {"auth_token": KEY}):
        with anthropic.Anthropic(base_url=base, **key) as sdk:
            assert sdk.models.list().data
    for header in ("x-api-key", "authorization"):
        value = KEY if header == "x-api-key" else f"Bearer {KEY}"
        raw = anthropic.Anthropic(base_url=base, api_key="unused", max_retries=0)
        omitted = {"authorization": anthropic.Omit(), "x-api-key": anthropic.Omit()}
        with raw:
            assert raw.models.list(extra_headers={**omitted, header: value}).data
    with anthropic.Anthropic(base_url=base, api_key="wrong", max_retries=0) as sdk:
        with pytest.raises(anthropic.AuthenticationError) as refused:
            sdk.messages.create(model="echo", max_tokens=9, messages=user("hi"))
    error = refused.value
    assert error.body["error"]["type"] == "authentication_error"
    assert error.body["request_id"] == error.request_id


def test_a_model_that_is_nobodys_is_not_found(ask):
    with pytest.raises(anthropic.NotFoundError) as refused:
        ask("hi", model="nobody")
    assert refused.value.body["error"]["type"] == "not_found_error"
    assert refused.value.response.headers["request-id"] == refused.value.body["request_id"]


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"tools": [{"name": "look", "input_schema": SCHEMA}]}, "tools"),
        (
            {"content": user([{"type": "image", "source": {"type": "url", "url": "http://x"}}])},
            "messages[0].content[0]",
        ),
        ({"content": user([{"type": "text", "text": "hi"}, PICTURE])}, "images"),
        (
            {"output_config": {"format": {"type": "json_schema", "schema": {"type": 7}}}},
            "output_config.format",
        ),
    ],
)
def test_what_cannot_be_honoured_is_refused_by_name(ask, fields, param):
    with pytest.raises(anthropic.BadRequestError) as refused:
        ask(**{"content": "hi", **fields})
    assert refused.value.body["error"]["type"] == "invalid_request_error"
    assert param in refused.value.body["error"]["message"]


def test_an_agent_that_is_not_there_is_no_reason_to_break_off_the_connection(ask):
    with pytest.raises(anthropic.InternalServerError) as refused:
        ask("hi", model="claude")
    assert refused.value.status_code in {503, 529}


def test_a_turn_that_fails_is_not_executed_again(base, daemon, tmp_path):
    with anthropic.Anthropic(base_url=base, api_key=KEY, max_retries=2) as sdk:
        began = time.monotonic()
        for streamed in (False, True):
            with pytest.raises(anthropic.InternalServerError) as refused:
                sdk.messages.create(
                    model="scripted", max_tokens=9, messages=user("{{exit:3}}"), stream=streamed
                )
            assert refused.value.response.headers["x-should-retry"] == "false"
            assert refused.value.body["error"]["type"] == "api_error"
        assert time.monotonic() - began < 5


def test_a_failure_in_mid_stream_is_an_error_and_a_cut_connection(sdk, daemon):
    prompt = "some words {{wait:0.1}}{{exit:3}}"
    with sdk.messages.stream(model="scripted", max_tokens=9, messages=user(prompt)) as stream:
        with pytest.raises(anthropic.APIStatusError) as broken:
            list(stream)
    assert broken.value.body["type"] == "error"
    assert broken.value.body["error"]["type"] == "api_error"
    assert broken.value.body["request_id"] == broken.value.request_id
    assert not daemon.logged("the app failed")


def test_ten_turns_are_ten_single_messages_to_one_agent(ask):
    messages = []
    for turn in range(10):
        messages.append(
            {"role": "user", "content": f"{turn} {{{{pid}}}}" if turn % 5 == 0 else f"say {turn}"}
        )
        answer = ask(messages, model="kept")
        text = answer.content[0].text
        # The scripted agent says its whole prompt: a retold history would be in here.
        assert text.startswith(f"{turn} ") if turn % 5 == 0 else text == f"say {turn}"
        messages.append({"role": "assistant", "content": answer.content})
    pids = {messages[at]["content"][0].text.split()[1] for at in (1, 11)}
    assert len(pids) == 1


def test_a_conversation_that_nobody_has_had_is_told_whole(ask):
    messages = [*user("my name is Ada"), {"role": "assistant", "content": "hello Ada"}, *user("what is it?")]
    text = ask(messages).content[0].text
    assert "my name is Ada" in text
    assert text.endswith("what is it?")


def test_an_answer_ends_at_a_stop_sequence(ask, sdk):
    message = ask("one two END three", stop_sequences=["END", "never"])
    assert message.content[0].text == "one two "
    assert (message.stop_reason, message.stop_sequence) == ("stop_sequence", "END")
    fields = {"model": "echo", "max_tokens": 9, "messages": user("one two END"), "stop_sequences": ["END"]}
    with sdk.messages.stream(**fields) as stream:
        final = stream.get_final_message()
    assert final.content[0].text == "one two "
    assert (final.stop_reason, final.stop_sequence) == ("stop_sequence", "END")


def test_tokens_are_counted_without_an_agent(sdk, daemon):
    before = len(daemon.agents())
    began = time.monotonic()

    def count(size):
        return sdk.messages.count_tokens(model="claude-haiku", system="s", messages=user("word " * size))

    with ThreadPoolExecutor(24) as at_once:
        counts = [counted.input_tokens for counted in at_once.map(count, range(1, 25))]
    assert time.monotonic() - began < 2
    assert counts == sorted(counts)
    assert len(daemon.agents()) == before


def test_the_models_are_listed_page_by_page(sdk):
    every = [model.id for model in sdk.models.list(limit=1000)]
    assert {"echo", "claude", "codex", "claude-via-codex", "claude-via-echo", "sonnet"} <= set(every)
    paged = [model.id for model in sdk.models.list(limit=2)]
    assert paged == every
    assert sdk.models.list(limit=2).has_more
    assert not sdk.models.list(limit=1000).has_more
    for name in every:
        assert sdk.models.retrieve(name).id == name
    with pytest.raises(anthropic.NotFoundError):
        sdk.models.retrieve("nobody")
    with pytest.raises(anthropic.BadRequestError):
        sdk.models.list(limit=0)


def test_an_alias_for_claude_code_is_the_agent_behind_it(ask):
    assert ask("hi", model="claude-via-echo").content[0].text == "hi"


@pytest.mark.parametrize("name", ["claude-via-nope", "claude-via-", "claude-via-opencode/some"])
def test_an_alias_of_no_agent_never_falls_to_claude(ask, sdk, name):
    with pytest.raises(anthropic.NotFoundError, match="does not exist"):
        ask("hi", model=name)
    with pytest.raises(anthropic.NotFoundError):
        sdk.models.retrieve(name)


def test_an_agent_that_does_not_satisfy_the_schema_fails_once(base):
    wanted = {"format": {"type": "json_schema", "schema": SCHEMA}}
    with anthropic.Anthropic(base_url=base, api_key=KEY) as sdk:
        with pytest.raises(anthropic.InternalServerError) as failed:
            sdk.messages.create(model="echo", max_tokens=9, messages=user("no JSON"), output_config=wanted)
    assert "schema" in failed.value.message
    assert failed.value.response.headers["x-should-retry"] == "false"
