"""The official SDK over claude itself, whose model is the fake one."""

import json
from types import SimpleNamespace

import openai
import pytest

from tests.daemon.support import backends
from tests.openai.conftest import sdk
from tests.openai.support import NUMBER, PICTURE, as_format, ask, content, read
from tests.support.daemon import Daemon

TOLD = "What follows is the conversation so far."

pytestmark = [pytest.mark.real, pytest.mark.daemon]


def talk(scene, mark, turns, messages=None, model="claude", **fields):
    """A chat of so many turns more, as a stateless client holds it; returns its messages."""
    messages = [] if messages is None else messages
    begun = len(messages) // 2
    for number in range(begun, begun + turns):
        messages.append({"role": "user", "content": f"{mark} {number}"})
        answer = scene.chat(model=model, messages=messages, **fields)
        assert content(answer) == f"echo: {mark} {number}"
        messages.append(answer.choices[0].message)
    return messages


def prompts(scene, mark):
    """What the user's messages of each model call for a mark were."""
    return [
        [text for text in texts_of(request["body"]["messages"]) if mark in text]
        for request in scene.model.of(mark)
    ]


def texts_of(messages):
    for message in messages:
        if message["role"] == "user":
            parts = message["content"]
            yield from [parts] if isinstance(parts, str) else [part.get("text", "") for part in parts]


def test_a_chat_of_ten_turns_is_ten_single_messages(claude):
    talk(claude, "vermilion", 10)
    calls = prompts(claude, "vermilion")
    assert len(calls) == 10
    for number, texts in enumerate(calls):
        assert texts == [f"vermilion {each}" for each in range(number + 1)]


def single(scene, mark, turns):
    """Whether the agent got each message of a chat once, and was never told what was said before."""
    bodies = [json.dumps(request["body"]) for request in scene.model.of(mark)]
    newest = [body for body in bodies if f"{mark} {turns - 1}" in body]
    return all(TOLD not in body for body in bodies) and all(
        body.count(f'"{mark} {number}"') == 1 for body in newest for number in range(turns)
    )


@pytest.mark.parametrize("agent", ["claude", "codex"])
def test_a_chat_goes_on_after_the_warm_agent_was_evicted_and_after_the_daemon_was(model, tmp_path, agent):
    agents = backends(model.url, tmp_path / "homes", agent)
    agents[agent] |= {"spares": 0, "max_idle": 0}
    mark, messages = f"celadon of {agent}", []
    for turns in (2, 1):
        with Daemon(tmp_path / "daemon", backends=agents) as daemon, sdk(daemon, timeout=60) as made:
            scene = SimpleNamespace(chat=made.chat.completions.create, model=model)
            talk(scene, mark, turns, messages, model=agent)
    assert len(messages) == 6
    assert single(scene, mark, 3)


@pytest.mark.parametrize("agent", ["codex", "gemini"])
def test_other_agents_get_ten_single_messages_too(model, tmp_path, agent):
    with (
        Daemon(tmp_path / "daemon", backends=backends(model.url, tmp_path / "homes", agent)) as daemon,
        sdk(daemon, timeout=60) as made,
    ):
        scene = SimpleNamespace(chat=made.chat.completions.create, model=model)
        talk(scene, f"amber of {agent}", 10, model=agent)
    assert single(scene, f"amber of {agent}", 10)


def test_a_chat_that_the_daemon_never_had_is_told_once(claude):
    scripted = ask("ochre zero", "an answer", "[[say:told]]ochre one")
    first = claude.chat(model="claude", messages=scripted)
    assert content(first) == "told"
    claude.chat(model="claude", messages=[*scripted, first.choices[0].message, *ask("ochre two")])
    told, then = prompts(claude, "ochre")
    assert "<user>ochre zero</user>" in told[0]
    assert then == [told[0], "ochre two"]


def test_a_stream_has_text_thinking_and_usage(claude):
    messages = ask("[[think:let me see]] [[long:30]]")
    text, chunks = read(
        claude.chat(model="claude", messages=messages, stream=True, stream_options={"include_usage": True})
    )
    assert text == " ".join(f"w{number}" for number in range(30))
    assert len(chunks) > 20
    thoughts = [
        getattr(chunk.choices[0].delta, "reasoning_content", None) for chunk in chunks if chunk.choices
    ]
    assert "".join(thought for thought in thoughts if thought) == "let me see"
    assert chunks[-2].choices[0].finish_reason == "stop"
    assert chunks[-1].usage.completion_tokens > 0


def test_thinking_is_beside_a_whole_answer(claude):
    answer = claude.chat(model="claude", messages=ask("[[think:let me see]]short"))
    assert answer.choices[0].message.reasoning_content == "let me see"


def test_the_model_in_the_name_is_the_one_that_is_asked(claude):
    for name in ("claude/claude-fable-1", "claude-fable-1"):
        answer = claude.chat(model=name, messages=ask(f"umber {name}"))
        assert answer.model == name
        [request] = claude.model.of(f"umber {name}")
        assert request["body"]["model"] == "claude-fable-1"


def test_the_system_message_is_the_agents_own(claude):
    claude.chat(
        model="claude", messages=[{"role": "system", "content": "speak sienna"}, *ask("hello sienna")]
    )
    [request] = claude.model.of("hello sienna")
    assert "speak sienna" in json.dumps(request["body"]["system"])


def test_pictures_reach_the_model(claude):
    url = f"data:image/png;base64,{PICTURE}"
    parts = [{"type": "text", "text": "look at mauve"}, {"type": "image_url", "image_url": {"url": url}}]
    claude.chat(model="claude", messages=[{"role": "user", "content": parts}])
    bodies = [json.dumps(request["body"].get("messages")) for request in claude.model.requests()]
    assert [PICTURE in body for body in bodies if "look at mauve" in body] == [True]


def test_an_answer_satisfies_a_schema_by_the_agents_own_means(claude):
    messages = ask('russet [[json:{"n": 7}]]')
    answer = claude.chat(model="claude", messages=messages, response_format=as_format(NUMBER))
    assert json.loads(content(answer)) == {"n": 7}
    assert "JSON Schema" not in json.dumps(claude.model.of("russet")[0]["body"]["messages"])


def test_an_answer_that_is_too_long_says_so(claude):
    answer = claude.chat(model="claude", messages=ask("[[max]]some words"), max_completion_tokens=64)
    assert answer.choices[0].finish_reason == "length"


def test_a_rate_limit_of_the_model_is_one_of_the_daemon(model, tmp_path):
    agents = backends(model.url, tmp_path / "homes", "claude")
    agents["claude"]["env"]["CLAUDE_CODE_MAX_RETRIES"] = "0"
    with Daemon(tmp_path / "daemon", backends=agents) as daemon, sdk(daemon) as made:
        with pytest.raises(openai.RateLimitError) as failed:
            made.chat.completions.create(model="claude", messages=ask("[[err:429]][[retryafter:7]]amber"))
    assert failed.value.code == "rate_limit_exceeded"


def test_a_model_that_breaks_off_breaks_the_stream(claude):
    with pytest.raises(openai.APIError):
        read(claude.chat(model="claude", messages=ask("[[mid:cutalways]] umbra"), stream=True))


def test_ten_words_stop_at_the_fifth(claude):
    answer = claude.chat(model="claude", messages=ask("[[long:10]]"), stop=[" w5"])
    assert content(answer) == "w0 w1 w2 w3 w4"
