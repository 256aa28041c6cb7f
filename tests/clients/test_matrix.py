"""Every client, unmodified, over the real agents: plain calls, streamed ones, a chat, and calls that fail."""

from collections import Counter

import pytest

from tests.clients.conftest import AGENTS, Client

pytestmark = [pytest.mark.real, pytest.mark.daemon]

CLIENTS = {
    "openai 3.54.0": Client("openai_chat.py"),
    "openai 3.54.0 responses": Client("openai_responses.py"),
    "openai 1.109.1": Client("openai_chat.py", "older"),
    "openai 1.109.1 responses": Client("openai_responses.py", "older"),
    "anthropic 2.12.0": Client("anthropic_messages.py"),
    "anthropic 0.97.0": Client("anthropic_messages.py", "older"),
    "openai for node 6.49.0": Client("openai_chat.mjs", "node"),
    "openai for node 6.49.0 responses": Client("openai_responses.mjs", "node"),
    "@anthropic-ai/sdk 1.13.0": Client("anthropic_messages.mjs", "node"),
    "ai 6.0.326 responses": Client("ai_sdk.mjs", "node", "responses"),
    "ai 6.0.326 anthropic": Client("ai_sdk.mjs", "node", "anthropic"),
    "langchain-openai 1.7.3": Client("langchain_invoke.py", "langchain", "openai"),
    "langchain-anthropic 1.7.7": Client("langchain_invoke.py", "langchain", "anthropic"),
    "litellm 1.106.2 openai": Client("litellm_completion.py", "litellm", "openai"),
    "litellm 1.106.2 anthropic": Client("litellm_completion.py", "litellm", "anthropic"),
}

FAILURES = {
    "unknown model": ("NotFoundError", 404, "nobody"),
    "rate limit": ("RateLimitError", 429, "429"),
    "refused key": ("InternalServerError", 503, "Incorrect API key"),
    "too long": ("BadRequestError", 400, "context window"),
}
"""The class, the status, and what the message must hold."""
NARROWER = {
    503: {"ServiceUnavailableError", "OpenAIAPIError", "AnthropicAPIError"},
    400: {"ContextWindowExceededError", "OpenAIInvalidRequestError", "AnthropicContextOverflowError"},
}
"""What some clients make of a status, in place of the class above."""
ALL_ALIKE = "APICallError"
"""What Vercel's AI SDK makes of every status."""
ATTEMPTS = {"rate limit": 3, "refused key": 1, "too long": 1, "breaks off": 1}
"""How often a call that fails is executed: again only where the agent had no model to act on."""


@pytest.fixture(params=CLIENTS)
def name(request):
    return request.param


@pytest.fixture
def seen(played, name):
    """What the client saw."""
    return played(name, CLIENTS[name])


def test_it_is_the_version_that_is_pinned(seen, name):
    assert seen["version"] in name.split()


def test_a_plain_call_is_answered_by_every_agent(seen, name):
    assert seen["plain"] == dict.fromkeys(AGENTS, f"echo: plain {name}")


def test_a_streamed_call_comes_in_pieces_from_every_agent(seen):
    for pieces in seen["streamed"].values():
        assert "".join(pieces) == " ".join(f"w{number}" for number in range(30))
        assert len(pieces) > 5


def test_a_chat_reaches_the_agent_as_single_messages(seen, model, name):
    for agent, answers in seen["chats"].items():
        asked = [f"turn {turn} of {name} with {agent} [[history]]" for turn in range(3)]
        # The model says what it was told, message by message: no turn is a transcript.
        assert answers == [" | ".join(asked[: turn + 1]) for turn in range(3)]
        assert [request["text"] for request in model.of(f"of {name} with {agent} ")] == asked


@pytest.mark.parametrize("how", ["failures", "streamed failures"])
@pytest.mark.parametrize("failure", FAILURES)
def test_a_failing_call_is_the_error_that_the_client_knows(seen, how, failure):
    found = seen[how][failure]
    kind, status, words = FAILURES[failure]
    assert found["status"] == status
    assert kind in found["kind"] or found["kind"] in {ALL_ALIKE, *NARROWER.get(status, ())}
    assert words in found["message"]


@pytest.mark.parametrize("how", ["plain", "streamed"])
def test_a_call_that_failed_is_executed_again_only_if_nothing_was_done(seen, model, name, how):
    assert seen
    asked = model.of(f" for {name} {how}")
    attempts = ATTEMPTS | ({"rate limit": 1} if name == "litellm 1.106.2 anthropic" else {})
    assert sorted(Counter(request["text"] for request in asked).values()) == sorted(attempts.values())
