"""What is refused, and how: platform.md rows 1, 9 and 10."""

import json

import pytest
import trio

from .apps import make_app
from .support import get, read_to_end, read_until, serving, stock

POST = "Content-Type: text/plain"


def refusal(answer: bytes) -> tuple[int, str]:
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"connection: close" in head.lower()
    assert b"content-type: application/json" in head
    error = json.loads(body)["error"]
    assert error.keys() == {"code", "message", "param", "type"}
    return int(head.split()[1]), error["code"]


CHUNKS = b"3\r\nabc\r\n0\r\n\r\n"


def chunked(coding: str = "Transfer-Encoding: chunked", body: bytes = CHUNKS) -> bytes:
    return get("/length", coding, method="POST") + body


REFUSED = {
    "both lengths": (
        get("/length", "Content-Length: 3", "Transfer-Encoding: chunked", method="POST") + b"abc",
        400,
    ),
    "chunked in 1.0": (get("/length", "Transfer-Encoding: chunked", method="POST", version="1.0"), 400),
    "two lengths": (get("/length", "Content-Length: 3", "Content-Length: 4", method="POST") + b"abc", 400),
    "two lengths that are equal": (
        get("/length", "Content-Length: 3", "content-length: 3", method="POST") + b"abc",
        400,
    ),
    "two lengths in one": (get("/length", "Content-Length: 3, 3", method="POST") + b"abc", 400),
    "signed length": (get("/length", "Content-Length: +3", method="POST") + b"abc", 400),
    "hexadecimal length": (get("/length", "Content-Length: 0x3", method="POST") + b"abc", 400),
    "chunked twice": (chunked("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked"), 501),
    "chunked last": (chunked("Transfer-Encoding: identity, chunked"), 501),
    "chunked first": (chunked("Transfer-Encoding: chunked, identity"), 501),
    "xchunked": (chunked("Transfer-Encoding: xchunked"), 501),
    "chunked quoted": (chunked('Transfer-Encoding: "chunked"'), 501),
    "chunked behind a vertical tab": (chunked("Transfer-Encoding: \x0bchunked"), 400),
    "chunked before a space": (chunked("Transfer-Encoding : chunked"), 400),
    "chunked in the next line": (chunked("Transfer-Encoding:\r\n chunked"), 400),
    "bare LF in chunks": (chunked(body=b"3\nabc\r\n0\r\n\r\n"), 400),
    "bare LF behind a chunk": (chunked(body=b"3\r\nabc\n0\r\n\r\n"), 400),
    "length behind the chunks": (chunked(body=CHUNKS[:-2] + b"Content-Length: 7\r\n\r\n"), 400),
    "bare LF": (get("/health").replace(b"\r\n", b"\n"), 400),
    "bare LF behind one line": (get("/health").replace(b"\r\n", b"\n", 1), 400),
    "bare LF behind a field": (get("/health", "X: a\nTransfer-Encoding: chunked"), 400),
    "bare LF at the end": (get("/health")[:-2] + b"\n", 400),
    "bare CR": (get("/health", "X: a\rb"), 400),
    "folded field": (get("/health", "X: a\r\n b"), 400),
    "folded request line": (get("/health").replace(b"Host", b" Host"), 400),
    "space before the colon": (get("/health", "X : a"), 400),
    "no name": (get("/health", ": a"), 400),
    "no colon": (get("/health", "X"), 400),
    "NUL in a value": (get("/health", "X: a\0b"), 400),
    "NUL in a name": (get("/health", "X\0: a"), 400),
    "control character in a value": (get("/health", "X: a\x01b"), 400),
    "DEL in a value": (get("/health", "X: a\x7fb"), 400),
    "two content types": (
        get("/length", "Content-Type: application/json", "content-type: text/plain", method="POST"),
        400,
    ),
    "two origins": (get("/health", "Origin: http://a", "Origin: http://b"), 400),
    "unknown coding": (get("/length", "Transfer-Encoding: gzip", method="POST"), 501),
    "other host in target": (get("http://evil.example/health"), 400),
    "user in target": (get("http://me@localhost/health"), 400),
    "other scheme": (get("ftp://localhost/health"), 400),
    "no path": (get("health"), 400),
    "asterisk": (get("*", method="OPTIONS"), 400),
    "connect": (get("localhost:80", method="CONNECT"), 405),
    "http2 by prior knowledge": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
    "long url": (get("/" + "a" * 9000), 414),
    "large headers": (get("/health", "X: " + "a" * 33000), 431),
    "many headers": (get("/health", *["X: a"] * 101), 431),
    "no host": (b"GET /health HTTP/1.1\r\n\r\n", 400),
    "two hosts": (get("/health", "Host: other"), 400),
    "host not ascii": (b"GET /health HTTP/1.1\r\nHost: \xff\r\n\r\n", 400),
    "not http": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400),
    "declared too large": (get("/length", "Content-Length: 11000000", method="POST"), 413),
}


@pytest.mark.parametrize("piece", [1, 3, 7])
async def test_a_head_is_judged_alike_in_pieces(piece):
    app, _ = make_app()
    async with serving(app) as server, await server.connect() as client:
        sent = get("/health") + REFUSED["two lengths that are equal"][0]
        for at in range(0, len(sent), piece):
            await client.send_all(sent[at : at + piece])
            await trio.lowlevel.checkpoint()
        answers = await read_to_end(client)
        assert answers.startswith(b"HTTP/1.1 200")
        assert refusal(answers.partition(b"ok")[2][answers.partition(b"ok")[2].index(b"HTTP") :])[0] == 400


@pytest.mark.parametrize("name", REFUSED)
async def test_a_bad_head_is_refused_and_the_connection_closed(name):
    request, status = REFUSED[name]
    app, _ = make_app()
    async with serving(app) as server:
        assert refusal(await server.ask(request))[0] == status
        assert await server.is_alive()


async def test_the_stock_server_still_accepts_two_lengths_and_another_host():
    app, _ = make_app()
    async with stock(app) as server, await server.connect() as client:
        await client.send_all(get("http://evil.example/health"))
        assert b" 200 " in await read_until(client, b"ok")
    async with stock(app) as server, await server.connect() as client:
        both = get("/length", POST, "Content-Length: 3", "Transfer-Encoding: chunked", method="POST")
        await client.send_all(both + b"2\r\nab\r\n0\r\n\r\n")
        assert b'"length":2' in await read_until(client, b"}\n")


async def test_an_absolute_target_of_our_host_reaches_the_app_as_a_path():
    seen = []

    async def app(scope, _receive, send):
        seen.append((scope["path"], scope["raw_path"], scope["query_string"]))
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async with serving(app) as server:
        await server.ask(get("http://LOCALHOST/a%20b?c=d", "Connection: close"))
    assert seen == [("/a b", b"/a%20b", b"c=d")]


async def test_an_offer_of_h2c_is_answered_in_http_1():
    app, _ = make_app()
    async with serving(app) as server, await server.connect() as client:
        await client.send_all(
            get("/health", "Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AA")
        )
        assert (await read_until(client, b"ok")).startswith(b"HTTP/1.1 200")


async def test_a_chunked_body_over_the_limit_gets_413_and_its_handler_is_cancelled():
    app, _ = make_app()
    async with serving(app, max_body_bytes=100_000) as server, await server.connect() as client:
        await client.send_all(get("/length", POST, "Transfer-Encoding: chunked", method="POST"))
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def upload():
                try:
                    while True:
                        await client.send_all(b"2710\r\n" + b"x" * 10000 + b"\r\n")
                except trio.BrokenResourceError:
                    pass

            answer = await read_until(client, b"}}")
            nursery.cancel_scope.cancel()
        assert refusal(answer) == (413, "request_too_large")


async def test_bodies_within_the_limit_arrive_whole():
    app, _ = make_app()
    async with serving(app) as server:
        big = 9_000_000
        sent = get("/length", POST, f"Content-Length: {big}", "Connection: close", method="POST") + b"x" * big
        assert b'"length":9000000' in await server.ask(sent)
        tiny = b"1\r\nx\r\n" * 50_000 + b"0\r\n\r\n"
        sent = get("/length", POST, "Transfer-Encoding: chunked", "Connection: close", method="POST") + tiny
        assert b'"length":50000' in await server.ask(sent)


async def test_a_body_that_does_not_come_gets_408():
    app, _ = make_app()
    async with serving(app, body_time_s=0.2) as server:
        answer = await server.ask(get("/length", POST, "Content-Length: 5", method="POST") + b"abc")
        assert refusal(answer) == (408, "request_timeout")


async def test_expect_continue_gets_its_100_or_the_refusal():
    app, _ = make_app()
    async with serving(app) as server, await server.connect() as client:
        await client.send_all(get("/length", "Expect: 100-continue", "Content-Length: 3", method="POST"))
        assert (await read_until(client, b"\r\n\r\n")).startswith(b"HTTP/1.1 100")
        await client.send_all(b"abc")
        assert b'"length":3' in await read_until(client, b"}\n")
        big = get("/length", "Expect: 100-continue", "Content-Length: 99000000", method="POST")
        assert (await server.ask(big)).startswith(b"HTTP/1.1 413")


async def test_an_answer_without_reading_the_body_arrives_and_closes():
    async def guard(_scope, _receive, send):
        await send({"type": "http.response.start", "status": 401, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"no"})

    async with serving(guard) as server, await server.connect() as client:
        body = b"x" * 2_000_000
        await client.send_all(get("/", f"Content-Length: {len(body)}", method="POST") + body)
        answer = await read_to_end(client)
        assert answer.startswith(b"HTTP/1.1 401")
        assert b"connection: close" in answer
        assert answer.endswith(b"no")


@pytest.mark.parametrize("started", [False, True])
async def test_a_crash_of_the_app_gets_500_or_a_cut(started, caplog):
    async def app(scope, _receive, send):
        if scope["type"] == "lifespan":
            raise NotImplementedError
        if started:
            await send({"type": "http.response.start", "status": 200, "headers": []})
        raise KeyError("oops")

    async with serving(app) as server:
        answer = await server.ask(get("/?api_key=secret"))
        if started:
            assert not answer.endswith(b"0\r\n\r\n")
        else:
            assert refusal(answer) == (500, "internal_error")
    assert "oops" in caplog.text
    assert "secret" not in caplog.text


async def test_refusals_are_written_in_the_dialect_of_the_surface():
    def render(status, code, _message, scope):
        return f"{status} {code} {scope.get('path')}".encode(), [(b"content-type", b"text/plain")]

    app, _ = make_app()
    async with serving(app, render) as server:
        answer = await server.ask(
            get("/anthropic/v1/messages?x=1", "Content-Length: 99000000", method="POST")
        )
        assert answer.endswith(b"413 request_too_large /anthropic/v1/messages")


BAD = {
    "HEAD, a body too large": get("/anthropic/a?b", "Content-Length: 99999999", method="HEAD"),
    "a body too large": get("/anthropic/a?b", "Content-Length: 99999999", method="POST"),
    "a target too long": get(f"/anthropic/a?{'b' * 9000}"),
    "a head too large": get("/anthropic/a?b", f"X-Large: {'b' * 40_000}"),
    "a bare LF": get("/anthropic/a?b", "X: y\nZ: z"),
    "HEAD, a bare LF": get("/anthropic/a?b", "X: y\nZ: z", method="HEAD"),
    "no header field": get("/anthropic/a?b", "no field"),
    "HEAD, no header field": get("/anthropic/a?b", "no field", method="HEAD"),
    "two bodies": get("/anthropic/a?b", "Content-Length: 1", "Transfer-Encoding: chunked", method="POST"),
    "a head that does not end": get("/anthropic/a?b")[:-2],
}


@pytest.mark.parametrize(
    "before", [b"", get("/hello"), get("/hello", method="HEAD")], ids=["", "get", "head"]
)
async def test_every_refusal_knows_the_path_that_was_asked_and_none_that_was_asked_before(before):
    paths = []

    def render(status, code, message, scope):
        paths.append(scope.get("path"))
        return b"in words", [(b"content-type", b"text/plain")]

    app, _ = make_app()
    async with serving(app, render, header_time_s=0.2) as server:
        for name, bad in BAD.items():
            async with await server.connect() as client:
                if before:
                    await client.send_all(before)
                    assert await client.receive_some()
                await client.send_all(bad)
                told = await read_to_end(client)
            assert told.endswith(b"in words") or name.startswith("HEAD"), name
    assert paths == ["/anthropic/a"] * len(BAD)


async def test_a_refusal_of_what_is_no_request_is_not_in_the_dialect_of_the_one_before():
    paths = []

    def render(status, code, message, scope):
        paths.append(scope.get("path"))
        return b"in words", []

    app, _ = make_app()
    async with serving(app, render) as server:
        assert (await server.ask(get("/hello") + b"\x16\x03\r\n\r\n")).endswith(b"in words")
    assert paths == [None]
