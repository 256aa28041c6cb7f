"""While the client runs its tools: the run is held for it, and for nobody else, and not for ever."""

import json
import time
from contextlib import ExitStack

import openai
import pytest

from tests.daemon.support import backends, warm
from tests.support.daemon import wait_until
from tests.tools.support import FUNCTIONS, one_call, two_calls
from tests.tools.test_chat import answered, whole

pytestmark = [pytest.mark.real, pytest.mark.daemon]

PATIENCE = 1.5


@pytest.fixture
def sdk():
    """Make a client of a daemon; one that is left to the garbage collector may leave an open socket, which fails a test."""
    with ExitStack() as made:

        def make(daemon, key="any"):
            base = f"http://127.0.0.1:{daemon.client.port}/openai/v1"
            return made.enter_context(openai.OpenAI(base_url=base, api_key=key, max_retries=0, timeout=20))

        yield make


@pytest.fixture
def hasty(model, tmp_path):
    """A daemon that waits for no client for long, with claude and codex."""
    settings = backends(model.url, tmp_path / "homes", "claude", "codex")
    limits = {"client_tool_timeout_secs": PATIENCE, "reattach_grace_secs": 0.2}
    with warm(tmp_path, settings, **limits) as daemon:
        yield daemon


def ended(daemon, outcome):
    return [line for line in daemon.logged("run ended") if line["outcome"] == outcome]


@pytest.mark.parametrize("agent", ["claude", "codex"])
def test_calls_that_nobody_answers_end_the_run_and_late_results_begin_a_new_one(sdk, hasty, model, agent):
    gpt = sdk(hasty)
    mark = f"unanswered {agent}"
    said = [{"role": "user", "content": f"{one_call(agent)} {mark}"}]
    message, _ = whole(gpt, model=agent, messages=said, tools=FUNCTIONS)
    wait_until(lambda: ended(hasty, "timeout"), PATIENCE + 3)
    said += [message, *answered(message)]
    message, finish = whole(gpt, model=agent, messages=said, tools=FUNCTIONS)
    # A new agent was told what had been said; here it makes the call that it finds in there once more.
    told = model.of(mark)[-1]["text"]
    assert "[result of the call" in told
    assert finish == "tool_calls"
    assert message["tool_calls"][0]["id"] != said[1]["tool_calls"][0]["id"]


@pytest.fixture
def narrow(model, tmp_path):
    """A daemon with one process of claude's, and places for two runs in all."""
    settings = backends(model.url, tmp_path / "homes", "claude", "codex")
    settings["claude"]["max_processes"] = 1
    limits = {"max_concurrent_runs": 2, "client_tool_grace_secs": PATIENCE}
    with warm(tmp_path, settings, **limits) as daemon:
        yield daemon


@pytest.mark.parametrize(("agent", "held"), [("claude", 1), ("codex", 2)])
def test_a_run_whose_client_takes_its_time_gives_way_to_one_that_waits_for_a_place(
    sdk, narrow, model, agent, held
):
    gpt = sdk(narrow)
    mark = f"giving way of {agent}"
    said = [{"role": "user", "content": f"{one_call(agent)} {mark}"}]
    messages = [whole(gpt, model=agent, messages=said, tools=FUNCTIONS)[0] for _ in range(held)]
    began = time.monotonic()
    message, _ = whole(gpt, model=agent, messages=[{"role": "user", "content": "[[say:here]] it is"}])
    assert message["content"] == "here"
    assert PATIENCE / 2 < time.monotonic() - began < PATIENCE + 10
    # That was the first one, and no more than needed; its result is told to another agent.
    assert len(ended(narrow, "timeout")) == 1
    said += [messages[0], *answered(messages[0])]
    whole(gpt, model=agent, messages=said, tools=FUNCTIONS)
    assert "[result of the call" in model.of(mark)[-1]["text"]


def test_results_after_a_restart_are_answered_by_a_new_turn(sdk, hasty, model):
    said = [{"role": "user", "content": f"{one_call('claude')} restarted"}]
    message, _ = whole(sdk(hasty), model="claude", messages=said, tools=FUNCTIONS)
    hasty.process.kill()
    hasty.ended()
    hasty.start()
    hasty.wait_listening()
    said += [message, *answered(message)]
    _, finish = whole(sdk(hasty), model="claude", messages=said, tools=FUNCTIONS)
    assert finish == "tool_calls"
    assert "[result of the call" in model.of("restarted")[-1]["text"]


def test_a_client_that_leaves_before_it_is_told_of_calls_leaves_nothing(sdk, hasty):
    slow = f"[[wait:3000]]{one_call('codex')} left alone"
    with pytest.raises(openai.APITimeoutError):
        sdk(hasty).with_options(timeout=0.5).chat.completions.create(
            model="codex", messages=[{"role": "user", "content": slow}], tools=FUNCTIONS
        )
    wait_until(lambda: ended(hasty, "cancelled"), 3)


def test_nobody_else_can_go_on_with_a_run(sdk, gpt, daemon, model):
    said = [{"role": "user", "content": f"{one_call('claude')} mine alone"}]
    message, _ = whole(gpt, model="claude", messages=said, tools=FUNCTIONS)
    said += [message, *answered(message)]
    _, finish = whole(sdk(daemon, "other"), model="claude", messages=said, tools=FUNCTIONS)
    assert finish == "tool_calls"  # of a run of the other's own, which was told everything
    assert "[result of the call" in model.of("mine alone")[-1]["text"]
    message, finish = whole(gpt, model="claude", messages=said, tools=FUNCTIONS)
    assert (message["content"], finish) == ("tool-result: 5", "stop")


def test_results_of_some_calls_only_end_the_run_that_waits_for_all(gpt, daemon, model):
    before = len(ended(daemon, "cancelled"))
    said = [{"role": "user", "content": f"{two_calls('claude')} only some"}]
    message, _ = whole(gpt, model="claude", messages=said, tools=FUNCTIONS)
    said += [message, answered(message)[0]]
    _, finish = whole(gpt, model="claude", messages=said, tools=FUNCTIONS)
    assert finish == "tool_calls"
    assert "[result of the call" in model.of("only some")[-1]["text"]
    wait_until(lambda: len(ended(daemon, "cancelled")) > before, 3)


def test_results_of_calls_that_nobody_made_are_told_to_an_agent(sonnet, model):
    said = [
        {"role": "user", "content": "what is it?"},
        {"role": "assistant", "content": [{"type": "tool_use", "id": "toolu_x", "name": "add", "input": {}}]},
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "toolu_x", "content": "[[say:told]] unknown call"}
            ],
        },
    ]
    message = sonnet.messages.create(model="claude", max_tokens=99, messages=said)
    assert message.content[0].text == "told"


def test_the_same_results_sent_again_join_the_turn_that_goes_on(gpt, model):
    said = [{"role": "user", "content": f"[[slow:300]]{one_call('claude')} sent again"}]
    message, _ = whole(gpt, model="claude", messages=said, tools=FUNCTIONS)
    said += [message, *answered(message)]
    with pytest.raises(openai.APITimeoutError):
        whole(gpt.with_options(timeout=0.15), model="claude", messages=said, tools=FUNCTIONS)
    retried = {"x-stainless-retry-count": "1"}
    message, _ = whole(gpt, model="claude", messages=said, tools=FUNCTIONS, extra_headers=retried)
    assert message["content"] == "tool-result: 5"
    assert [one["kind"] for one in model.of("sent again")] == ["turn", "tool_result"]


async def test_the_agents_bridge_ends_with_its_conversation(daemon, gpt):
    headers = {"authorization": f"Bearer {gpt.api_key}"}
    said = [{"role": "user", "content": f"[[say:{json.dumps('ok')}]] bridged"}]
    answer = gpt.chat.completions.with_raw_response.create(model="gemini", messages=said, tools=FUNCTIONS)
    assert [found for found in daemon.strays() if found.pid]  # the bridge
    before = len(daemon.strays())
    session = answer.headers["x-clinvoker-session"]
    await daemon.client.call("DELETE", f"/api/v1/sessions/{session}", headers=headers)
    wait_until(lambda: len(daemon.strays()) < before, 3)
