"""What goes over the wire and no SDK shows: names of events, pings, probes, headers."""

import json

import pytest
import trio

from tests.anthropic.conftest import KEY
from tests.http.support import read_to_end

HEADERS = {"x-api-key": KEY, "anthropic-version": "2023-06-01"}
MESSAGES = "/anthropic/v1/messages"


def body(text, model="scripted", **fields):
    return {"model": model, "max_tokens": 99, "messages": [{"role": "user", "content": text}], **fields}


def events(raw):
    """The frames of a stream: names and data."""
    found = []
    for frame in raw.decode().removesuffix("\n\n").split("\n\n"):
        name, data = frame.split("\n")
        found.append((name.removeprefix("event: "), json.loads(data.removeprefix("data: "))))
    return found


async def test_every_event_has_its_name_and_silence_is_filled_with_pings(client):
    answer = await client.call(
        "POST", f"{MESSAGES}?beta=true", body("a{{wait:1}}b", stream=True), headers=HEADERS
    )
    told = events(answer.body)
    assert all(name == data["type"] for name, data in told)
    pings = [name for name, _ in told].count("ping")
    assert 3 <= pings <= 6
    assert [name for name, _ in told if name != "ping"][-1] == "message_stop"


async def test_pings_end_with_the_agent_and_the_body_is_cut(client):
    async with client.open(
        "POST", MESSAGES, body("a{{wait:0.5}}{{exit:3}}", stream=True), headers=HEADERS
    ) as incoming:
        answer = await incoming.whole()
    assert answer.status == 200
    assert incoming.cut
    assert events(answer.body)[-1][0] == "error"


async def test_a_failure_before_the_first_word_is_a_status(client):
    answer = await client.call(
        "POST", MESSAGES, body("{{error:-32000,rate limit exceeded}}", stream=True), headers=HEADERS
    )
    assert answer.status >= 400
    assert answer.json["type"] == "error"
    assert answer.json["request_id"] == answer.headers["request-id"] == answer.headers["x-request-id"]


@pytest.mark.parametrize("path", ["/anthropic", "/anthropic/", "/anthropic/v1"])
async def test_somebody_who_only_looks_is_answered(client, path):
    for method in ("HEAD", "GET"):
        answer = await client.call(method, path, headers=HEADERS)
        assert answer.status == 200


@pytest.mark.parametrize(
    ("status", "path", "headers"),
    [
        (413, MESSAGES, {"content-length": "99999999"}),
        (414, f"{MESSAGES}?{'a' * 9000}", {}),
        (431, MESSAGES, {"x-large": "a" * 40_000}),
        (400, MESSAGES, {"transfer-encoding": "chunked", "content-length": "1"}),
        (413, "/anthropic", {"content-length": "99999999"}),
    ],
)
async def test_what_never_reaches_a_route_is_refused_in_anthropics_words_too(client, status, path, headers):
    fields = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    with trio.fail_after(5):
        async with await trio.open_tcp_stream("127.0.0.1", client.port) as stream:
            await stream.send_all(f"POST {path} HTTP/1.1\r\nhost: localhost\r\n{fields}\r\n".encode())
            head, _, answer = (await read_to_end(stream)).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 %d " % status)
    told = json.loads(answer)
    assert told["type"] == "error"
    number = told["request_id"].encode()
    assert {b"x-request-id: " + number, b"request-id: " + number} <= set(head.split(b"\r\n"))


async def test_every_error_is_in_anthropics_words(client):
    for method, path, what, status, kind in (
        ("GET", "/anthropic/v1/nowhere", None, 404, "not_found_error"),
        ("GET", MESSAGES, None, 405, "invalid_request_error"),
        ("POST", MESSAGES, {"model": "echo"}, 400, "invalid_request_error"),
        ("POST", MESSAGES, b"{", 400, "invalid_request_error"),
    ):
        answer = await client.call(method, path, what, headers=HEADERS)
        assert answer.status == status
        assert answer.json["type"] == "error"
        assert answer.json["error"]["type"] == kind
        assert answer.json["request_id"] == answer.headers["request-id"]


@pytest.mark.parametrize("path", [MESSAGES, f"{MESSAGES}/count_tokens"])
@pytest.mark.parametrize(
    "value", [b"1e999", b"9" * 5000, b'{"a": [1e999]}'], ids=["float", "integer", "within"]
)
async def test_an_unknown_field_may_hold_whatever_json_can(client, path, value):
    known = json.dumps(body("hello", model="echo")).encode().removesuffix(b"}")
    answer = await client.call("POST", path, known + b', "zz": ' + value + b"}", headers=HEADERS)
    assert answer.status == 200, answer


async def test_a_session_that_the_client_names_goes_on(client):
    headers = {**HEADERS, "x-claude-code-session-id": "5f0c"}
    said = [{"role": "user", "content": "one"}]
    seen = set()
    for _ in range(3):
        answer = await client.call(
            "POST", MESSAGES, {**body("", model="kept"), "messages": said}, headers=headers
        )
        seen.add(answer.headers["x-clinvoker-session"])
        said += [
            {"role": "assistant", "content": "what the client made of it"},
            {"role": "user", "content": "more"},
        ]
    assert len(seen) == 1


RETRIED = "x-stainless-retry-count"


async def begun(client, text, headers, **fields):
    """Ask, see the answer begin, and leave; returns the run."""
    async with client.open("POST", MESSAGES, body(text, stream=True, **fields), headers=headers) as incoming:
        assert incoming.status == 200
        await incoming.chunk()
        return incoming.headers["x-clinvoker-run"]


async def test_a_retry_joins_the_run_in_flight_and_a_new_request_does_not(client):
    first = await begun(client, "a{{wait:1}}b", {**HEADERS, RETRIED: "0"})
    assert await begun(client, "a{{wait:1}}b", {**HEADERS, RETRIED: "1"}) == first
    assert await begun(client, "a{{wait:1}}b", {**HEADERS, RETRIED: "0"}) != first


async def test_the_repetition_without_a_stream_joins_the_run_in_flight(client):
    headers = {**HEADERS, RETRIED: "0", "x-claude-code-session-id": "77aa"}
    first = await begun(client, "a{{wait:0.6}} b", headers)
    answer = await client.call("POST", MESSAGES, body("a{{wait:0.6}} b", stream=False), headers=headers)
    assert answer.headers["x-clinvoker-run"] == first
    assert answer.json["content"][0]["text"] == "a b"
