"""The one table of errors, in each API's own words."""

import json

import pytest

from actors.errors import Code, Refusal
from actors.messages import Failed
from clinvoker.api.errors import render
from clinvoker.chat.failure import ActedRefusal, refusal_of
from clinvoker.errors import TABLE

OPENAI_TYPES = {"invalid_request_error", "rate_limit_error", "server_error"}
ANTHROPIC_TYPES = {
    "invalid_request_error": {400, 405, 415},
    "authentication_error": {401},
    "permission_error": {403},
    "not_found_error": {404},
    "conflict_error": {409},
    "request_too_large": {413},
    "rate_limit_error": {429},
    "api_error": {500, 502, 503},
    "timeout_error": {504},
    "overloaded_error": {529},
}


def told(path, code, message="so it is", **fields):
    status, body, headers = render(Refusal(code, message, **fields), path, "req_1")
    return status, json.loads(body), headers


@pytest.mark.parametrize("code", Code)
def test_every_error_has_openais_shape(code):
    status, body, _ = told("/openai/v1/chat/completions", code, param="field")
    assert status == TABLE[code][0]
    assert body.keys() == {"error"}
    error = body["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    assert error["param"] == "field"
    assert error["type"] in OPENAI_TYPES
    assert (error["type"] == "server_error") is (status >= 500)
    assert "so it is" in error["message"]


@pytest.mark.parametrize("code", Code)
def test_every_error_has_anthropics_shape(code):
    status, body, _ = told("/anthropic/v1/messages", code)
    assert body.keys() == {"type", "error", "request_id"}
    assert (body["type"], body["request_id"]) == ("error", "req_1")
    assert body["error"].keys() == {"type", "message"}
    assert status in ANTHROPIC_TYPES[body["error"]["type"]]


@pytest.mark.parametrize("path", ["", "/", "/api/v1/prompt", "/openaix", "/v1/openai/x", "/anthropicx"])
def test_elsewhere_an_error_has_the_native_shape(path):
    _, body, _ = told(path, Code.NOT_FOUND)
    assert body["error"].keys() == {"code", "message", "param", "type"}


@pytest.mark.parametrize(
    ("code", "type_", "told_code"),
    [
        (Code.UNAUTHORIZED, "invalid_request_error", "invalid_api_key"),
        (Code.MODEL_NOT_FOUND, "invalid_request_error", "model_not_found"),
        (Code.BACKEND_RATE_LIMITED, "rate_limit_error", "rate_limit_exceeded"),
        (Code.CONTEXT_TOO_LONG, "invalid_request_error", "context_length_exceeded"),
    ],
)
def test_openais_clients_find_the_codes_they_know(code, type_, told_code):
    error = told("/openai/v1/models", code)[1]["error"]
    assert (error["type"], error["code"]) == (type_, told_code)


def test_a_prompt_that_is_too_long_is_told_in_the_words_that_clients_look_for():
    message = told("/openai/v1/chat/completions", Code.CONTEXT_TOO_LONG)[1]["error"]["message"]
    assert message == "input tokens exceed the configured limit: so it is"


@pytest.mark.parametrize(
    ("code", "begun", "heard", "acted"),
    [
        (Code.BACKEND_UNAVAILABLE, False, False, False),
        (Code.RATE_LIMITED, False, False, False),
        (Code.BACKEND_RATE_LIMITED, True, False, False),
        (Code.BACKEND_RATE_LIMITED, True, True, True),
        (Code.BACKEND_ERROR, True, False, True),
        (Code.TIMEOUT, True, False, True),
        (Code.CRASHED, True, True, True),
    ],
)
def test_who_sends_a_turn_again_is_warned_once_the_agent_may_have_acted(code, begun, heard, acted):
    refusal = refusal_of(Failed(code, "no", retry_after=3.0), begun=begun, heard=heard)
    assert isinstance(refusal, ActedRefusal) is acted
    _, _, headers = render(refusal, "/openai/v1/chat/completions")
    assert headers.get("x-should-retry") == ("false" if acted else None)
    assert headers["retry-after"] == "3"


@pytest.mark.parametrize("code", [Code.NOT_INSTALLED, Code.NOT_LOGGED_IN])
def test_what_only_a_person_can_mend_is_not_tried_again(code):
    _, _, headers = render(Refusal(code, "no"), "/openai/v1/chat/completions")
    assert headers["x-should-retry"] == "false"


@pytest.mark.parametrize(("wait", "retried"), [(None, None), (60.0, None), (61.0, "false")])
def test_a_client_is_told_of_a_long_wait_and_does_not_spend_it(wait, retried):
    _, _, headers = render(
        Refusal(Code.BACKEND_RATE_LIMITED, "no", retry_after=wait), "/anthropic/v1/messages"
    )
    assert headers.get("x-should-retry") == retried
    assert headers.get("retry-after") == (None if wait is None else f"{wait:.0f}")
