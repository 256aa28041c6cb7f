"""The official SDK against the real claude and codex, which ask the fake model."""

import json
from concurrent.futures import ThreadPoolExecutor

import anthropic
import pytest

from tests.anthropic.conftest import AGENTS, KEY
from tests.daemon.test_answers import PIXEL
from tests.support.daemon import wait_until

pytestmark = [pytest.mark.real, pytest.mark.daemon]

each_agent = pytest.mark.parametrize("agent", AGENTS)


@pytest.fixture
def sdk(agents):
    """The SDK, and a daemon with both agents."""
    base = f"http://127.0.0.1:{agents.client.port}/anthropic"
    with anthropic.Anthropic(base_url=base, api_key=KEY, max_retries=0) as client:
        yield client


def fields(content, agent, **more):
    messages = content if isinstance(content, list) else [{"role": "user", "content": content}]
    return {"model": agent, "max_tokens": 8000, "messages": messages, **more}


def streamed(sdk, content, agent, **more):
    with sdk.messages.stream(**fields(content, agent, **more)) as stream:
        list(stream)
        return stream.get_final_message()


@each_agent
def test_the_streamed_message_adds_up_to_the_whole_one(sdk, agent):
    prompt = f"[[think:let me see]] naïve \u2028 \U0001f642 three for {agent}"
    whole = sdk.messages.create(**fields(prompt, agent))
    pieces = streamed(sdk, prompt, agent)
    for message in (whole, pieces):
        thought, said = message.content
        assert (thought.type, thought.thinking) == ("thinking", "let me see")
        assert thought.signature
        assert (said.type, said.text) == ("text", f"echo: {prompt}")
        assert message.stop_reason == "end_turn"
        assert message.usage.output_tokens > 0
        assert message.usage.input_tokens > 0
        assert agent != "claude" or message.usage.cache_read_input_tokens > 0
    assert whole.model == pieces.model


def test_who_asks_for_no_thoughts_gets_none(sdk):
    message = sdk.messages.create(
        **fields("[[think:let me see]] hi", "claude", thinking={"type": "disabled"})
    )
    assert [block.type for block in message.content] == ["text"]


@each_agent
def test_ten_turns_send_the_agent_ten_single_messages(sdk, model, agent):
    messages = []
    for turn in range(10):
        messages.append({"role": "user", "content": f"{turn} of ten for {agent} [[history]]"})
        answer = sdk.messages.create(**fields(messages, agent, system="Be brief."))
        asked = [message["content"] for message in messages if message["role"] == "user"]
        assert answer.content[-1].text == " | ".join(asked)
        messages.append({"role": "assistant", "content": answer.content})
    sent = [request["text"] for request in model.of(f"of ten for {agent}")]
    assert sent == asked


FAILURES = {
    "[[err:401]]": anthropic.InternalServerError,
    "[[err:429]][[retryafter:50]]": anthropic.RateLimitError,
    "[[err:529]]": anthropic.OverloadedError,
    "[[err:404]]": anthropic.NotFoundError,
    "[[errtype:context]]": anthropic.BadRequestError,
}


def test_a_failure_of_the_model_is_its_class_of_the_sdk(sdk):
    def fail(mark):
        with pytest.raises(anthropic.APIStatusError) as failed:
            sdk.messages.create(**fields(mark, "claude"), stream="401" in mark)
        return failed.value

    with ThreadPoolExecutor() as pool:
        found = dict(zip(FAILURES, pool.map(fail, FAILURES), strict=True))
    assert {mark: type(error) for mark, error in found.items() if not isinstance(error, FAILURES[mark])} == {}
    limited = found["[[err:429]][[retryafter:50]]"].response.headers
    assert 50 <= float(limited["retry-after"]) < 65
    assert "x-should-retry" not in limited


def test_a_stream_that_breaks_off_upstream_breaks_off_here(sdk):
    said = []
    with pytest.raises(anthropic.APIStatusError) as failed:
        said.extend(sdk.messages.create(**fields("one two three [[mid:cutalways]]", "codex"), stream=True))
    assert failed.value.body["type"] == "error"


def test_a_refusal_is_an_answer(sdk):
    for message in (
        sdk.messages.create(**fields("[[refuse]] whole", "claude")),
        streamed(sdk, "[[refuse]] in pieces", "claude"),
    ):
        assert message.stop_reason == "refusal"
        assert message.stop_details.type == "refusal"


@each_agent
def test_an_answer_that_was_cut_at_the_limit_says_so(sdk, agent):
    assert sdk.messages.create(**fields(f"one two [[max]] {agent}", agent)).stop_reason == "max_tokens"


@each_agent
def test_an_answer_ends_at_a_stop_sequence_and_the_agent_with_it(sdk, model, agent):
    prompt = f"[[long:300]] [[slow:20]] stop {agent}"
    message = sdk.messages.create(**fields(prompt, agent, stop_sequences=["w7 "]))
    assert message.content[0].text == "w0 w1 w2 w3 w4 w5 w6 "
    assert (message.stop_reason, message.stop_sequence) == ("stop_sequence", "w7 ")
    wait_until(lambda: model.of(prompt)[-1]["status"] == "client_gone", 5)


def test_what_is_asked_for_reaches_the_model(sdk, model):
    mark = "[[say:all of it]]"
    picture = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PIXEL}}
    content = [{"type": "text", "text": mark}, picture]
    sdk.messages.create(
        **fields([{"role": "user", "content": content}], "claude", system="You are a parrot.")
    )
    # The last text is claude's own, of where it keeps the picture.
    bodies = [request.get("body") for request in model.requests()]
    body = next(body for body in reversed(bodies) if mark in json.dumps(body))
    assert body["max_tokens"] == 8000
    assert PIXEL in json.dumps(body)
    assert "You are a parrot." in json.dumps(body)


@each_agent
def test_an_answer_satisfies_its_schema(sdk, agent):
    schema = {
        "type": "object",
        "properties": {"a": {"type": "integer"}},
        "required": ["a"],
        "additionalProperties": False,
    }
    wanted = {"format": {"type": "json_schema", "schema": schema}}
    message = sdk.messages.create(**fields(f'[[json:{{"a":7}}]] for {agent}', agent, output_config=wanted))
    assert json.loads(message.content[-1].text) == {"a": 7}
