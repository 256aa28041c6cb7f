"""Every error in one shape, with one status and one type for each code, and an id on every answer."""

import re

import pytest
import trio
from msgspec import UNSET

from actors.errors import ActorDied, Code, Refusal
from actors.messages import Failed, as_failed, as_refusal
from clinvoker.api.app import make_app
from clinvoker.api.errors import render
from clinvoker.api.guard import Guard
from clinvoker.api.rates import Rates
from clinvoker.config import Settings
from clinvoker.errors import TABLE, status_of, type_of, typed
from clinvoker.metrics import Metrics
from clinvoker.service import Service
from clinvoker.turns import Turns
from tests.api.support import PROMPT, error_of
from tests.http.support import get, serving

STATUSES = {
    Code.INVALID_REQUEST: 400,
    Code.UNSUPPORTED: 400,
    Code.UNAUTHORIZED: 401,
    Code.FORBIDDEN: 403,
    Code.NOT_FOUND: 404,
    Code.METHOD_NOT_ALLOWED: 405,
    Code.SESSION_BUSY: 409,
    Code.IDEMPOTENCY: 409,
    Code.TOO_LARGE: 413,
    Code.UNSUPPORTED_MEDIA: 415,
    Code.RATE_LIMITED: 429,
    Code.BUSY: 503,
    Code.DRAINING: 503,
    Code.INTERNAL: 500,
    Code.TIMEOUT: 504,
    Code.CANCELLED: 409,
    Code.READER_TOO_SLOW: 409,
    Code.BACKEND_UNAVAILABLE: 503,
    Code.NOT_INSTALLED: 503,
    Code.NOT_LOGGED_IN: 503,  # never 401: that is about our key
    Code.BACKEND_RATE_LIMITED: 429,
    Code.BACKEND_OVERLOADED: 503,
    Code.BACKEND_UNREACHABLE: 502,
    Code.CONTEXT_TOO_LONG: 400,
    Code.MODEL_NOT_FOUND: 404,
    Code.REFUSED: 400,
    Code.BACKEND_ERROR: 502,
    Code.CRASHED: 502,
    Code.PROTOCOL: 502,
    Code.STORAGE: 500,
    Code.INTERRUPTED: 500,
}


def test_every_code_has_its_status_and_a_type():
    assert set(TABLE) == set(Code)
    assert {code: status_of(code) for code in Code} == STATUSES
    assert all(re.fullmatch(r"[a-z]+(_[a-z]+)*_error", type_of(code)) for code in Code)


@pytest.mark.parametrize("code", Code)
def test_a_refusal_is_rendered_in_the_one_shape(code):
    status, body, headers = render(Refusal(code, "no", param="tasks[3].workdir", retry_after=2.6))
    expected = f'{{"code":"{code}","message":"no","param":"tasks[3].workdir","type":"{type_of(code)}"}}'
    assert body == f'{{"error":{expected}}}'.encode()
    assert status == STATUSES[code]
    assert headers["content-type"] == "application/json"
    assert headers["retry-after"] == "3"
    assert ("www-authenticate" in headers) == (status == 401)


def test_without_a_param_it_is_null_and_without_a_wait_there_is_no_header():
    _, body, headers = render(Refusal(Code.NOT_FOUND, "no"))
    assert b'"param":null' in body
    assert "retry-after" not in headers
    assert render(Refusal(Code.BUSY, "no", retry_after=0.1))[2]["retry-after"] == "1"


@pytest.mark.parametrize("wait", [None, 3, 2.5])
@pytest.mark.parametrize("param", [None, "images"])
def test_a_refusal_that_came_as_a_failed_turn_is_the_same_refusal(wait, param):
    refusal = as_refusal(as_failed(Refusal(Code.UNSUPPORTED, "no", param=param, retry_after=wait)))
    assert (refusal.code, refusal.message) == (Code.UNSUPPORTED, "no")
    assert (refusal.param, refusal.retry_after) == (param, wait)


def test_a_failure_gets_the_type_of_its_code():
    assert typed(Failed(Code.TIMEOUT, "late")).type == "timeout_error"
    assert Failed(Code.TIMEOUT, "late").type is UNSET


UNKNOWN = [
    "/",
    "/api",
    "/api/v1",
    "/api/v2/prompt",
    "/api/v1/prompt/",
    "/api//v1/prompt",
    "/health/",
    "/Health",
    "/favicon.ico",
    "/.env",
    "/api/v1/../../etc/passwd",
    "/%2e%2e/%2e%2e/etc/passwd",
    "/a%00b",
    "/%ff%fe",
    "/static/app.js",
    "/api/v1/runs//cancel",
]


@pytest.mark.daemon
@pytest.mark.parametrize("path", UNKNOWN)
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_an_unknown_path_is_a_404_of_ours(client, method, path):
    answer = await client.call(method, path)
    error = error_of(answer)
    assert (answer.status, error["code"], error["type"]) == (404, "not_found", "not_found_error")


ROUTES = [
    (PROMPT, "POST"),
    ("/api/v1/backends", "GET"),
    ("/api/v1/runs/run_1/cancel", "POST"),
    ("/api/v1/runs/run_1/permissions/p", "POST"),
    ("/health", "GET"),
    ("/metrics", "GET"),
]


@pytest.mark.daemon
@pytest.mark.parametrize(("path", "allowed"), ROUTES)
@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE", "TRACE", "BREW"])
async def test_a_method_that_a_path_does_not_take_is_a_405_with_those_it_does(client, path, allowed, method):
    if method == allowed:
        return
    answer = await client.call(method, path)
    error = error_of(answer)
    assert (answer.status, error["code"]) == (405, "method_not_allowed")
    assert allowed in answer.headers["allow"]


@pytest.mark.daemon
@pytest.mark.parametrize(("path", "allowed"), [*ROUTES, ("/unknown", "")])
async def test_head_answers_as_get_would_without_a_body(client, path, allowed):
    answer = await client.call("HEAD", path)
    assert answer.body == b""
    assert answer.status == (200 if allowed == "GET" else 405 if allowed else 404)
    assert "x-request-id" in answer.headers


@pytest.mark.daemon
async def test_every_answer_has_an_id_of_its_own(client):
    answers = [
        await client.get("/health"),
        await client.get("/metrics"),
        await client.get("/unknown"),
        await client.call("PUT", PROMPT),
        await client.call("POST", PROMPT, b"{"),
        await client.call("POST", PROMPT, {"prompt": "x" * (5 << 20)}),
        await client.call("GET", "/health", headers={"host": "evil.example"}),
        await client.call("GET", "/health", headers={"origin": "http://evil.example"}),
        await client.call("POST", PROMPT, {"prompt": "x", "backend": "echo"}),
        await client.call("POST", PROMPT, {"prompt": "x", "backend": "echo", "stream": True}),
        await client.call("POST", PROMPT, {"prompt": "x", "backend": "claude"}),
        await client.call("GET", "/" + "a" * 10_000),
    ]
    assert [answer.status for answer in answers] == [
        200,
        200,
        404,
        405,
        400,
        413,
        403,
        403,
        200,
        200,
        503,
        414,
    ]
    ids = [answer.headers["x-request-id"] for answer in answers]
    assert len(set(ids)) == len(ids)
    assert all(re.fullmatch(r"req_[0-9a-f]{24}", each) for each in ids)


class Broken:
    """A pool that has only this to say."""

    def __init__(self, error):
        self.error = error

    async def ask(self, _):
        raise self.error


def service_with(error):
    pools = {"echo": Broken(error)}
    turns = Turns(Settings(), {}, store=None, limiter=None, pools=pools, sessions=None)
    return Service(Settings(), turns, store=None, runs=None, observe=lambda _: None)


@pytest.mark.parametrize(
    ("error", "stopping", "status", "code"),
    [
        (ZeroDivisionError("secret detail"), False, 500, "internal_error"),
        (KeyError("secret detail"), False, 500, "internal_error"),
        (ActorDied("secret detail"), False, 500, "internal_error"),
        (ExceptionGroup("secret detail", [ValueError("x")]), False, 500, "internal_error"),
        (ActorDied("secret detail"), True, 503, "server_draining"),
        (Refusal(Code.BUSY, "too many", retry_after=1.0), False, 503, "server_busy"),
    ],
)
async def test_what_breaks_inside_is_told_without_its_inside(error, stopping, status, code):
    service = service_with(error)
    service.stopping = stopping
    rates = Rates(None, service.turns.budgets, Settings())
    app = Guard(make_app(service, Metrics()), Settings(), lambda *_: None, rates)
    async with serving(app) as server:
        with trio.fail_after(5):
            head, _, body = (await server.ask(get("/health", "Connection: close"))).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 %d" % status)
    assert f'"code":"{code}"'.encode() in body
    assert b"secret detail" not in body
    assert b"Traceback" not in body
    if status == 500:
        number = re.search(rb"x-request-id: (req_\w+)", head)[1]
        assert number in body
