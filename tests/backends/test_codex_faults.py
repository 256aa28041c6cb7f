"""What becomes of codex's troubles: each has a code, and none is retried in vain."""

import json

import pytest
import trio
import trio.testing

from actors.errors import Code
from actors.messages import (
    Complete,
    Failed,
    Options,
    Prompt,
    Start,
)
from actors.outbox import Outbox
from clinvoker.backends.codex_link import CodexLink
from tests.backends.codex_script import Script, ended, notice, retried, started, trouble
from tests.backends.harness import Asked, no_tools

HELLO = Start("gpt", "/ws")

CODES = [
    ("contextWindowExceeded", "", Code.CONTEXT_TOO_LONG),
    ("usageLimitExceeded", "", Code.BACKEND_RATE_LIMITED),
    ("serverOverloaded", "", Code.BACKEND_OVERLOADED),
    ("modelNotFound", "", Code.MODEL_NOT_FOUND),
    ("unauthorized", "", Code.NOT_LOGGED_IN),
    ("cyberPolicy", "", Code.REFUSED),
    ("internalServerError", "", Code.BACKEND_ERROR),
    ("sandboxError", "", Code.BACKEND_ERROR),
    ({"httpConnectionFailed": {"httpStatusCode": 401}}, "", Code.NOT_LOGGED_IN),
    ({"httpConnectionFailed": {"httpStatusCode": 403}}, "", Code.NOT_LOGGED_IN),
    ({"responseTooManyFailedAttempts": {"httpStatusCode": 429}}, "", Code.BACKEND_RATE_LIMITED),
    ({"httpConnectionFailed": {"httpStatusCode": 503}}, "", Code.BACKEND_OVERLOADED),
    (
        {"httpConnectionFailed": {"httpStatusCode": None}},
        "Connection failed: error sending request",
        Code.BACKEND_UNREACHABLE,
    ),
    ("other", "Missing environment variable: `FAKE_KEY`.", Code.NOT_LOGGED_IN),
    ("other", '{"error":{"message":"fake bad request"}}', Code.BACKEND_ERROR),
    ("other", "The 'gpt-9' model is not supported when using Codex", Code.MODEL_NOT_FOUND),
    ({"activeTurnNotSteerable": {"turnKind": "review"}}, "", Code.BACKEND_ERROR),
    (None, "", Code.BACKEND_ERROR),
    (7, "", Code.BACKEND_ERROR),
]


@pytest.mark.parametrize(("info", "message", "code"), CODES)
async def test_every_failure_has_its_code(info, message, code):
    events = await Script([started(), ended("failed", trouble(info, message))]).turn()
    assert [type(event) for event in events] == [Start, Failed]
    assert events[-1].code == code
    assert events[-1].message


async def test_the_body_of_a_bad_request_is_opened_and_the_address_of_the_model_kept():
    body = '{"error":{"message":"fake bad request","type":"x"}}'
    events = await Script([started(), ended("failed", trouble("other", body))]).turn()
    assert events[-1].message == "fake bad request"
    text = "unexpected status 403 Forbidden: no, url: http://secret.host/v1/responses"
    info = {"httpConnectionFailed": {"httpStatusCode": 403}}
    events = await Script([started(), ended("failed", trouble(info, text))]).turn()
    assert events[-1].message == "unexpected status 403 Forbidden: no"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("Rate limit reached. Please try again in 11.5s.", 11.5),
        ("try again in 250ms", 0.25),
        ("You've hit your usage limit. Try again in 1 day 2 hours 3 minutes.", 93_780),
    ],
)
async def test_how_long_to_wait_is_told(text, seconds):
    events = await Script([started(), ended("failed", trouble("usageLimitExceeded", text))]).turn()
    assert events[-1].retry_after == seconds


@pytest.mark.parametrize("status", [400, 401, 403, 404, 413])
async def test_what_retrying_cannot_mend_fails_at_once(status):
    error = trouble({"responseStreamDisconnected": {"httpStatusCode": status}}, "Reconnecting... 1/5", "no")
    script = Script([started(), retried(error), {"pause": "turn/interrupt"}, ended("interrupted")])
    events = await script.turn()
    assert [type(event) for event in events] == [Start, Failed]
    assert script.methods()[-1] == "turn/interrupt"


async def test_a_refused_websocket_is_no_refusal():
    details = "unexpected status 404 Not Found: not found, url: ws://127.0.0.1/v1/responses"
    error = trouble({"responseStreamDisconnected": {"httpStatusCode": 404}}, "Reconnecting... 2/5", details)
    events = await Script([started(), retried(error), ended()]).turn()
    assert events == [HELLO, Complete("end_turn")]


async def test_patience_with_retries_ends():
    error = trouble({"responseStreamDisconnected": {"httpStatusCode": 503}}, "Reconnecting... 1/5", "busy")
    script = Script([started(), retried(error), {"pause": "turn/interrupt"}, ended("interrupted")])
    events = await script.turn()
    assert events == [HELLO, Failed(Code.BACKEND_OVERLOADED, "busy")]


async def test_a_retry_that_gets_on_is_given_its_time():
    error = trouble({"responseStreamDisconnected": {"httpStatusCode": 503}}, "Reconnecting... 1/5", "busy")
    delta = notice("item/agentMessage/delta", itemId="i", delta="word")
    script = Script([started(), retried(error), delta, {"pause": "for ever"}])
    conversation = await script.link.open(Options(workdir="/ws"), None)
    with trio.move_on_after(0.2) as scope:
        await script.link.turn(conversation, Prompt("hi"), Outbox(), Asked(), no_tools)
    assert scope.cancelled_caught


async def test_an_interruption_that_nobody_asked_for_is_a_failure():
    events = await Script([started(), ended("interrupted")]).turn()
    assert events[-1].code == Code.CANCELLED


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ("no", Code.BACKEND_ERROR),
        ("Input exceeds the maximum length of 1048576 characters.", Code.CONTEXT_TOO_LONG),
    ],
)
async def test_a_turn_that_codex_refuses_fails(message, code):
    script = Script([])

    async def send(data: bytes):
        request = json.loads(data)
        if request.get("method") == "turn/start":
            script.say({"id": request["id"], "error": {"code": -32600, "message": message}})
        else:
            script.answer(request["method"], request["id"])

    script.link = CodexLink(send, has_key=True)
    assert await script.turn() == [Failed(code, message)]
