"""What is no frame, what breaks the protocol, and what is too much."""

import pytest
import trio

from clinvoker.api import websocket
from tests.api.websocket.support import (
    CLOSE,
    GRACE,
    PATH,
    TEXT,
    close_code,
    connected,
    finished_run,
    handshake,
    op,
    opened,
    vanish,
)
from tests.http.support import frame, read_to_end, read_until, upgrade
from tests.support.daemon import become_true

BAD = {
    "not JSON": ("hello", None, "invalid_request", None),
    "empty": ("", None, "invalid_request", None),
    "half": ('{"op":"prompt"', None, "invalid_request", None),
    "no object": ("[1]", None, "invalid_request", None),
    "null": ("null", None, "invalid_request", None),
    "no op": ('{"ref":"r"}', "r", "invalid_request", "op"),
    "unknown op": ('{"op":"zap","ref":"r"}', "r", "invalid_request", "op"),
    "op of a wrong type": ('{"op":1,"ref":"r"}', "r", "invalid_request", "op"),
    "no ref": ('{"op":"prompt","prompt":"x"}', None, "invalid_request", "ref"),
    "ref of a wrong type": ('{"op":"prompt","prompt":"x","ref":1}', None, "invalid_request", "ref"),
    "ref too long": (
        '{"op":"prompt","prompt":"x","ref":"%s"}' % ("r" * 257),
        None,
        "invalid_request",
        "ref",
    ),
    "no prompt": ('{"op":"prompt","ref":"r"}', "r", "invalid_request", "prompt"),
    "unknown field": (
        '{"op":"prompt","ref":"r","prompt":"x","model_":"y"}',
        "r",
        "invalid_request",
        "model_",
    ),
    "wrong type": ('{"op":"prompt","ref":"r","prompt":["x"]}', "r", "invalid_request", "prompt"),
    "NUL": ('{"op":"prompt","ref":"r","prompt":"\\u0000"}', "r", "invalid_request", "prompt"),
    "half a pair": ('{"op":"prompt","ref":"r","prompt":"\\ud800"}', None, "invalid_request", None),
    "dry run": (
        '{"op":"prompt","ref":"r","prompt":"x","dry_run":true}',
        "r",
        "unsupported_parameter",
        "dry_run",
    ),
    "output format": (
        '{"op":"prompt","ref":"r","prompt":"x","output_format":"text"}',
        "r",
        "unsupported_parameter",
        "output_format",
    ),
    "unknown backend": (
        '{"op":"prompt","ref":"r","prompt":"x","backend":"zap"}',
        "r",
        "invalid_request",
        "backend",
    ),
    "unknown session": (
        '{"op":"prompt","ref":"r","prompt":"x","session_id":"ses_zz"}',
        "r",
        "not_found",
        "session_id",
    ),
    "attach to nothing": ('{"op":"attach","ref":"r","run_id":"run_0"}', "r", "not_found", "run_id"),
    "attach without run": ('{"op":"attach","ref":"r"}', "r", "invalid_request", "run_id"),
    "attach before": (
        '{"op":"attach","ref":"r","run_id":"run_0","after":-1}',
        "r",
        "invalid_request",
        "after",
    ),
    "attach far": ('{"op":"attach","ref":"r","run_id":"x","after":1e99}', "r", "invalid_request", "after"),
    "cancel nothing": ('{"op":"cancel"}', None, "invalid_request", "run_id"),
    "cancel unknown": ('{"op":"cancel","run_id":"run_0","ref":"r"}', "r", "not_found", "run_id"),
    "permission unknown": (
        '{"op":"permission","run_id":"run_0","id":"p","option":"allow","ref":"r"}',
        "r",
        "not_found",
        "run_id",
    ),
    "permission without option": (
        '{"op":"permission","run_id":"run_0","id":"p"}',
        None,
        "invalid_request",
        "option",
    ),
    "binary": (b'{"op":"prompt","ref":"r","prompt":"x"}', "r", "invalid_request", None),
    "binary not UTF-8": (b"\xff\xfe", None, "invalid_request", None),
    "empty binary": (b"", None, "invalid_request", None),
    "deep": ("[" * 500_000, None, "invalid_request", None),
    "deep in a field": (
        '{"op":"prompt","ref":"r","prompt":"x","schema":' + '{"a":' * 100_000,
        None,
        "invalid_request",
        None,
    ),
    "deep in an unknown field": ('{"zz":' + "[" * 100_000, None, "invalid_request", None),
    "many keys": ('{"op":"cancel",%s"ref":"r"}' % ('"a":1,' * 50_000), "r", "invalid_request", "a"),
}


@pytest.mark.daemon
async def test_a_bad_frame_gets_an_error_event_and_the_connection_stays(daemon):
    async with connected(daemon) as line:
        for name, (sent, ref, code, param) in BAD.items():
            await line.connection.send_message(sent)
            event = await line.next()
            content = event["content"]
            expected = {"type", "content", "timestamp"} | ({"ref"} if ref else set())
            assert event.keys() == expected, (name, event)
            assert (event["type"], event.get("ref")) == ("error", ref), (name, event)
            assert (content["code"], content.get("param")) == (code, param), (name, event)
            assert content["message"], name
            assert content["type"] in {"invalid_request_error", "not_found_error"}, (name, event)
            assert "Traceback" not in content["message"], name
            assert len(content["message"]) < 500, name
        await line.send("prompt", ref="good", prompt="still here", backend="echo")
        await line.ends("good")


VIOLATIONS = {
    "invalid UTF-8": (frame(TEXT, b'{"op":"\xff"}'), 1007),
    "2 MiB": (frame(TEXT, b" " * (2 << 20)), 1009),
    "2 MiB in fragments": (frame(TEXT, b" ", fin=False) + frame(0, b" " * (1 << 19), fin=False) * 4, 1009),
    "compressed": (frame(TEXT, b"\xaa\x56\x2a", rsv=4), 1002),
    "unknown opcode": (frame(3, b"a"), 1002),
    "closed well": (frame(CLOSE, (1000).to_bytes(2, "big")), 1000),
}


@pytest.mark.daemon
@pytest.mark.parametrize("name", VIOLATIONS)
async def test_a_breach_of_the_protocol_closes_with_its_code_though_a_run_is_going(daemon, name):
    sent, code = VIOLATIONS[name]
    stream = await opened(daemon.client.port)
    await stream.send_all(op("prompt", ref="a", prompt="said {{wait:20}}", backend="scripted"))
    await read_until(stream, b"said")
    with trio.fail_after(3):
        try:
            await stream.send_all(sent)
        except trio.BrokenResourceError:
            assert code == 1009  # closed before all of it was out
        assert close_code(await read_to_end(stream)) == code
    await stream.aclose()
    await become_true(lambda: not daemon.strays(), GRACE + 3)


@pytest.mark.daemon
async def test_compression_is_not_negotiated(daemon):
    answer = await handshake(daemon, upgrade(PATH, "Sec-WebSocket-Extensions: permessage-deflate"))
    assert b" 101 " in answer
    assert b"deflate" not in answer


@pytest.mark.daemon
async def test_a_flood_of_frames_is_closed_with_1008_and_harms_nobody(daemon):
    async with connected(daemon) as other:
        rss = daemon.rss()
        stream = await opened(daemon.client.port)

        async def flood():
            with trio.move_on_after(3):
                try:
                    while True:
                        await stream.send_all(op("zap") * 100)
                except (trio.BrokenResourceError, trio.ClosedResourceError):
                    pass

        async with trio.open_nursery() as nursery:
            nursery.start_soon(flood)
            with trio.fail_after(3):
                data = await read_until(stream, b"frames a second")
            assert close_code(data) == 1008
            nursery.cancel_scope.cancel()
        await vanish(stream)
        assert daemon.rss() - rss < 20_000_000
        await other.send("prompt", ref="a", prompt="untouched", backend="echo")
        await other.ends("a")


@pytest.mark.daemon
async def test_a_client_that_sends_a_hundred_frames_at_once_is_none(daemon):
    async with connected(daemon) as line:
        for _ in range(100):
            await line.send("cancel", run_id="run_0")
        for _ in range(100):
            assert (await line.next())["content"]["code"] == "not_found"


@pytest.mark.daemon
async def test_a_connection_has_so_many_runs_open_and_no_more(daemon):
    run_id = await finished_run(daemon)
    async with connected(daemon) as line, connected(daemon) as other:
        await line.send("prompt", ref="live", prompt="x {{wait:20}}", backend="scripted")
        run_id = await line.begun("live")
        for number in range(websocket.MAX_OPEN - 1):
            await line.send("attach", ref=str(number), run_id=run_id, after=1)
        await line.send("attach", ref="more", run_id=run_id)
        refused = await line.until(lambda event: event["type"] == "error")
        assert (refused["ref"], refused["content"]["code"]) == ("more", "rate_limit_exceeded")
        await other.send("attach", ref="a", run_id=run_id)
        assert (await other.next())["seq"] == 1
        await line.send("cancel", run_id=run_id)
        await line.ends("live", *map(str, range(websocket.MAX_OPEN - 1)))
        await line.send("prompt", ref="again", prompt="room", backend="echo")
        await line.ends("again")
