"""Many runs over one websocket: /api/v1/ws (contract, section 6)."""

import json
import socket
import struct
from collections import Counter
from contextlib import asynccontextmanager
from itertools import pairwise

import pytest
import trio
from quart_trio import QuartTrio
from trio_websocket import ConnectionClosed, open_websocket_url

from actors.messages import Complete, Entry, Message
from actors.run import Identity
from clinvoker.api import websocket
from clinvoker.service import Started
from tests.api.support import eventually
from tests.http.support import eventually as soon
from tests.http.support import frame, read_to_end, read_until, serving, settled, upgrade
from tests.support.client import TERMINAL, Client
from tests.support.daemon import PYTHON, ROOT, Daemon, become_true, scripted
from tests.support.oracle import look

PATH = "/api/v1/ws"
GRACE = 0.3
TEXT, BINARY, CLOSE = 1, 2, 8
EVENT = {"type", "backend", "content", "timestamp", "run_id", "seq", "session_id", "ref"}


class Line:
    """A client's end of a websocket: what it was told, by ref."""

    def __init__(self, connection):
        self.connection = connection
        self.told = []

    async def send(self, op, **fields):
        await self.connection.send_message(json.dumps({"op": op, **fields}))

    async def next(self, within=5.0):
        with trio.fail_after(within):
            event = json.loads(await self.connection.get_message())
        self.told.append(event)
        return event

    async def until(self, condition, within=10.0):
        """Read until an event of which this holds, and return it."""
        with trio.fail_after(within):
            while not condition(event := await self.next(within)):
                pass
        return event

    async def ask(self, op, **fields):
        """Send, and return the next event."""
        await self.send(op, **fields)
        return await self.next()

    async def begun(self, ref):
        """Read until the run of this ref has said something; return its id."""
        event = await self.until(lambda event: event.get("ref") == ref and event["type"] == "message")
        return event["run_id"]

    async def ends(self, *refs):
        """Read until all these have their last event."""
        missing = {*refs} - {event.get("ref") for event in self.told if event["type"] in TERMINAL}
        while missing:
            missing.discard((await self.until(lambda event: event["type"] in TERMINAL))["ref"])

    async def closed(self, pause=0.0):
        """Read to the end, with a pause after every 512 frames; return the close code."""
        try:
            while True:
                await self.next(12)
                if pause and len(self.told) % 512 == 0:
                    await trio.sleep(pause)
        except ConnectionClosed as end:
            return end.reason.code

    def of(self, ref):
        return [event for event in self.told if event.get("ref") == ref and "seq" in event]

    def text(self, ref):
        return "".join(event["content"]["text"] for event in self.of(ref) if event["type"] == "message")


async def let_go(connection):
    """Close, and also the socket, which trio-websocket forgets when the server closed first."""
    await connection.aclose()
    await connection._stream.aclose()


@asynccontextmanager
async def connected(daemon, query="", **options):
    async with open_websocket_url(
        f"ws://127.0.0.1:{daemon.client.port}{PATH}{query}", message_queue_size=64, **options
    ) as connection:
        try:
            yield Line(connection)
        finally:
            await let_go(connection)


async def opened(port, receive_buffer=0):
    """A raw connection behind its handshake."""
    sock = trio.socket.socket()
    if receive_buffer:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    await sock.connect(("127.0.0.1", port))
    stream = trio.SocketStream(sock)
    await stream.send_all(upgrade(PATH))
    assert (await read_until(stream, b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
    return stream


async def handshake(daemon, asked):
    """The answer's head to these bytes."""
    async with await trio.open_tcp_stream("127.0.0.1", daemon.client.port) as stream:
        await stream.send_all(asked)
        return await read_until(stream, b"\r\n\r\n")


def op(name, **fields):
    return frame(TEXT, json.dumps({"op": name, **fields}).encode())


def close_code(data):
    at = data.rindex(b"\x88")
    return int.from_bytes(data[at + 2 : at + 4], "big")


async def vanish(stream):
    """Go away without a word: RST."""
    stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    await stream.aclose()


async def status_of(daemon, run_id):
    told = (await daemon.client.get(f"/api/v1/runs/{run_id}")).json
    return told.get("outcome", {}).get("code", told["status"])


async def finished_run(daemon, text="one two three"):
    """A run that has ended and is only stored."""
    answer = await daemon.client.call("POST", "/api/v1/prompt", {"prompt": text, "backend": "scripted"})
    return answer.json["run_id"]


@pytest.fixture(scope="module")
def wired(tmp_path_factory):
    """The daemon of these tests, which must log no error of its own."""
    backends = {
        "scripted": scripted(max_processes=24, max_spawning=8, max_idle=4),
        "asking": {**scripted(), "command": [PYTHON, "-S", "-E", str(ROOT / "tests/api/asking_agent.py")]},
        "echo": {},
    }
    home = tmp_path_factory.mktemp("ws")
    with Daemon(home, backends=backends, reattach_grace_secs=GRACE, write_stall_secs=5) as daemon:
        yield daemon
        assert not [line for line in daemon.log.splitlines() if '"level":"error"' in line.replace(" ", "")]


@pytest.fixture
def daemon(wired):
    """The daemon, with a client that has asked nothing yet."""
    wired.client = Client(wired.client.port)
    return wired


# What can be asked.


@pytest.mark.daemon
async def test_a_prompt_is_answered_by_the_events_of_the_native_stream_with_its_ref(daemon):
    async with connected(daemon) as line:
        await line.send("prompt", ref="my ref \N{SNOWMAN}", prompt="one two", backend="scripted")
        await line.ends("my ref \N{SNOWMAN}")
        told = line.of("my ref \N{SNOWMAN}")
        assert told == line.told
        assert all(event.keys() == EVENT for event in told)
        assert [event["seq"] for event in told] == list(range(1, len(told) + 1))
        assert [event["type"] for event in told] == ["start", "message", "message", "complete"]
        assert told[-1]["content"]["output"] == "one two"
        native = (await daemon.client.get(f"/api/v1/runs/{told[0]['run_id']}/events")).body.decode()
        stored = [json.loads(data[6:]) for data in native.splitlines() if data.startswith("data: ")]
        assert [{**event, "ref": "my ref \N{SNOWMAN}"} for event in stored] == told


@pytest.mark.daemon
async def test_the_fields_of_a_prompt_are_honoured_and_a_session_goes_on(daemon):
    async with connected(daemon) as line:
        fields = {"stream": True, "output_format": "stream-json", "verbose": True, "tags": ["t"]}
        await line.send("prompt", ref="a", prompt="first", backend="scripted", **fields)
        await line.ends("a")
        session = line.told[0]["session_id"]
        await line.send("prompt", ref="b", prompt="second", session_id=session)
        await line.ends("b")
        assert {event["session_id"] for event in line.told} == {session}
        assert line.text("b") == "second"
    assert (await daemon.client.get(f"/api/v1/sessions/{session}")).json["session"]["tags"] == ["t"]


@pytest.mark.daemon
async def test_twenty_runs_on_one_connection_each_have_their_exact_text(daemon):
    async with connected(daemon) as line:
        for number in range(20):
            script = f"run {number}:{{{{pace:20,0.01}}}} end {number}"
            await line.send("prompt", ref=str(number), prompt=script, backend="scripted")
        await line.ends(*map(str, range(20)))
        for number in range(20):
            told = line.of(str(number))
            paced = "".join(f" {word}" for word in range(20))
            assert line.text(str(number)) == f"run {number}:{paced} end {number}"
            assert told[-1]["content"]["output"] == line.text(str(number))
            assert [event["seq"] for event in told] == list(range(1, len(told) + 1))
            assert len({event["run_id"] for event in told}) == 1
        order = [event["ref"] for event in line.told]
        assert sum(one != other for one, other in pairwise(order)) > 40  # interleaved


@pytest.mark.daemon
async def test_a_running_run_is_attached_from_the_middle_without_a_gap(daemon):
    async with connected(daemon) as one, connected(daemon) as other:
        await one.send("prompt", ref="a", prompt="{{count:50}}{{wait:0.3}} end", backend="scripted")
        run_id = await one.begun("a")
        await other.send("attach", ref="b", run_id=run_id, after=10)
        await other.send("attach", ref="c", run_id=run_id)
        await one.ends("a")
        await other.ends("b", "c")
        assert [event["content"] for event in other.of("b")] == [
            event["content"] for event in one.of("a")[10:]
        ]
        assert [event["seq"] for event in other.of("c")] == [event["seq"] for event in one.of("a")]


@pytest.mark.daemon
async def test_a_finished_run_is_told_from_the_store(daemon):
    run_id = await finished_run(daemon)
    await eventually(lambda: _stored(daemon, run_id))
    async with connected(daemon) as line:
        await line.send("attach", ref="a", run_id=run_id)
        await line.ends("a")
        await line.send("attach", ref="b", run_id=run_id, after=3)
        await line.ends("b")
        last = line.of("a")[-1]["seq"]
        assert line.text("a") == "one two three"
        assert [event["seq"] for event in line.of("b")] == list(range(4, last + 1))
        for after in (last, last + 100):
            ended = await line.ask("attach", ref="c", run_id=run_id, after=after)
            assert ended == {"type": "ended", "ref": "c", "run_id": run_id}


async def _stored(daemon, run_id):
    return (await status_of(daemon, run_id)) == "complete"


@pytest.mark.daemon
async def test_a_run_is_cancelled_and_tells_its_end(daemon):
    async with connected(daemon) as line:
        await line.send("prompt", ref="a", prompt="said {{wait:20}}", backend="scripted")
        run_id = await line.begun("a")
        await line.send("cancel", run_id=run_id, ref="c")
        answer = await line.until(lambda event: event["type"] == "cancelled")
        assert answer == {"type": "cancelled", "ref": "c", "run_id": run_id, "cancelled": True}
        await line.ends("a")
        assert line.of("a")[-1]["content"] == {
            "code": "cancelled",
            "message": "the run was cancelled",
            "type": "api_error",
        }
        answer = await line.ask("cancel", run_id=run_id)
        assert answer == {"type": "cancelled", "run_id": run_id, "cancelled": False}
    await become_true(lambda: not daemon.strays(), 2)


@pytest.mark.daemon
async def test_a_run_that_has_told_nothing_yet_is_cancelled_by_its_ref(daemon):
    async with connected(daemon) as line:
        await line.send("prompt", ref="a", prompt="{{wait:20}}", backend="scripted")
        await line.send("cancel", ref="a")
        answer = await line.until(lambda event: event["type"] == "cancelled")
        assert (answer["ref"], answer["cancelled"]) == ("a", True)
        await line.ends("a")
        assert line.of("a")[-1]["content"]["code"] == "cancelled"
        answer = await line.ask("cancel", ref="a")
        assert (answer["content"]["code"], answer["content"]["param"]) == ("not_found", "ref")


@pytest.mark.daemon
@pytest.mark.parametrize(("option", "told"), [("allow", "told y"), ("deny", "told n")])
async def test_a_permission_is_answered_over_the_websocket(daemon, option, told):
    async with connected(daemon) as line:
        await line.send(
            "prompt", ref="a", prompt="{{ask}}{{wait:20}}", backend="asking", approval_mode="always"
        )
        asked = await line.until(lambda event: event["type"] == "permission")
        permission = {"run_id": asked["run_id"], "id": asked["content"]["id"]}
        assert set(asked["content"]["options"]) == {"allow", "deny"}
        refused = await line.ask("permission", **permission, option="maybe", ref="p")
        assert (refused["ref"], refused["content"]["param"]) == ("p", "option")
        await line.send("permission", **permission, option=option, ref="p")
        answer = await line.until(lambda event: event["type"] == "answered")
        assert answer == {"type": "answered", "ref": "p", **permission, "option": option}
        await line.ends("a")
        assert line.text("a") == told
        refused = await line.ask("permission", **permission, option=option)
        assert refused["content"]["code"] == "not_found"


@pytest.mark.daemon
async def test_a_failed_turn_and_a_busy_session_are_events_of_their_runs(daemon):
    async with connected(daemon) as line:
        await line.send("prompt", ref="a", prompt="{{exit:3}}", backend="scripted")
        await line.ends("a")
        assert line.of("a")[-1]["content"]["code"] == "backend_crashed"
        await line.send("prompt", ref="b", prompt="x {{wait:20}}", backend="scripted")
        run_id = await line.begun("b")
        session = line.of("b")[-1]["session_id"]
        await line.send("prompt", ref="c", prompt="y", session_id=session)
        await line.ends("c")
        assert line.told[-1]["content"]["code"] == "session_busy"
        await line.send("cancel", run_id=run_id)
        await line.ends("b")


# Bad frames.

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


# Who goes away.


@pytest.mark.daemon
@pytest.mark.parametrize("how", ["close frame", "reset", "end"])
async def test_when_the_peer_goes_its_attached_runs_end_and_detached_ones_go_on(daemon, how):
    stream = await opened(daemon.client.port)
    for ref, detach in (("a", False), ("b", False), ("d", True)):
        fields = {"prompt": f"said-{ref} {{{{wait:1.5}}}}", "detach": detach}
        await stream.send_all(op("prompt", ref=ref, backend="scripted", **fields))
    data = b""
    runs = {}
    while len(runs) < 3:
        data += await stream.receive_some(65536)
        for piece in data.split(b'{"ref":')[1:]:
            if b"said-" in piece:
                runs[piece[1:2].decode()] = piece.partition(b'"run_id":"')[2].partition(b'"')[0].decode()
    assert b'{"type":"detached","ref":"d","run_id":"%b"' % runs["d"].encode() in data
    if how == "close frame":
        await stream.send_all(frame(CLOSE, (1000).to_bytes(2, "big")))
        assert close_code(await read_to_end(stream)) == 1000
    if how == "reset":
        await vanish(stream)
    await stream.aclose()
    with trio.fail_after(GRACE + 3):
        for ref in ("a", "b"):
            while await status_of(daemon, runs[ref]) != "cancelled":
                await trio.sleep(0.05)
        assert await status_of(daemon, runs["d"]) == "running"
        while await status_of(daemon, runs["d"]) != "complete":
            await trio.sleep(0.05)


@pytest.mark.daemon
async def test_who_comes_back_within_the_grace_finds_the_run(daemon):
    async with connected(daemon) as line:
        await line.send("prompt", ref="a", prompt="said {{wait:0.6}} end", backend="scripted")
        run_id = await line.begun("a")
        seen = line.told[-1]["seq"]
    async with connected(daemon) as line:
        await line.send("attach", ref="b", run_id=run_id, after=seen)
        await line.ends("b")
        assert line.text("b") == " end"
        assert line.told[0]["seq"] == seen + 1


@pytest.mark.daemon
async def test_who_does_not_read_slows_no_other_connection(daemon):
    async with await opened(daemon.client.port, receive_buffer=4096) as slow, connected(daemon) as line:
        script = "{{flood:20000}} told {{wait:60}}"
        await slow.send_all(op("prompt", ref="a", prompt=script, backend="scripted"))
        await trio.sleep(1)  # the agent has said it all, and its reader is stuck in it
        began = trio.current_time()
        for number in range(20):
            await line.send("prompt", ref=str(number), prompt="quick", backend="echo")
            await line.ends(str(number))
        assert trio.current_time() - began < 2
        await vanish(slow)
    await become_true(lambda: not daemon.strays(), GRACE + 3)


@pytest.mark.daemon
async def test_descriptors_and_tasks_come_back_to_where_they_were(daemon):
    async with connected(daemon) as line:
        await line.send("prompt", ref="a", prompt="warm", backend="echo")
        await line.ends("a")

    async def level():
        seen = await look(daemon)
        return seen.tasks, seen.descriptors, seen.sum("runs_running")

    before = None
    while before != (before := await level()):
        await trio.sleep(0.4)
    for how in range(10):
        stream = await opened(daemon.client.port)
        for ref in range(5):
            await stream.send_all(op("prompt", ref=str(ref), prompt="x", backend="echo", ephemeral=True))
        await stream.send_all(op("zap") + frame(BINARY, b""))
        if how % 2:
            await vanish(stream)
        else:
            await stream.send_all(frame(CLOSE, (1000).to_bytes(2, "big")))
            await read_to_end(stream)
            await stream.aclose()

    async def are_back():
        return all(abs(new - old) <= 2 for new, old in zip(await level(), before, strict=True))

    await eventually(are_back, 6)


# Who may connect.


@pytest.mark.daemon
async def test_host_origin_and_key_are_checked_before_the_handshake(tmp_path):
    with Daemon(tmp_path, env={"CLINVK_API_KEY": "key-one", "CLINVK_API_KEYS": "key-two"}) as daemon:
        right = ("authorization", "Bearer key-one")
        bad = [
            *(
                (401, []),
                (401, [("authorization", "Bearer wrong")]),
                (401, [("x-api-key", "key-one,key-two")]),
            ),
            *((403, [right, ("origin", "http://evil.example")]), (403, [right, ("origin", "null")])),
        ]
        for status, headers in bad:
            asked = upgrade(PATH, *(f"{name}: {value}" for name, value in headers))
            assert (await handshake(daemon, asked)).startswith(b"HTTP/1.1 %d " % status)
        async with (
            connected(daemon, extra_headers=[right]) as line,
            connected(daemon, "?api_key=key-two") as other,
        ):
            await line.send("prompt", ref="a", prompt="mine", detach=True)
            await line.ends("a")
            run_id = line.told[0]["run_id"]
            for frame_ in (
                ("attach", {"ref": "b"}),
                ("cancel", {}),
                ("permission", {"id": "p", "option": "o"}),
            ):
                told = await other.ask(frame_[0], run_id=run_id, **frame_[1])
                assert told["content"]["code"] == "not_found"  # another key's run is nobody's
        rebound = upgrade(PATH, "X-Api-Key: key-one").replace(b"Host: localhost", b"Host: evil.example")
        assert (await handshake(daemon, rebound)).startswith(b"HTTP/1.1 403 ")
        plain = await daemon.client.call("GET", f"{PATH}?api_key=key-one")
        assert plain.status == 400


# The daemon's end.


@pytest.mark.daemon
async def test_at_the_end_every_open_run_tells_its_last_event_before_1001(tmp_path):
    backends = {"scripted": scripted(max_processes=24, max_spawning=8), "echo": {}}
    with Daemon(tmp_path, backends=backends, shutdown_grace_secs=5, kill_grace_secs=1) as daemon:
        async with connected(daemon) as line:
            refs = [str(number) for number in range(12)]
            for ref in refs:
                script = "said {{count:2000}}{{wait:60}}" if ref in {"0", "1"} else "said {{wait:60}}"
                await line.send("prompt", ref=ref, prompt=script, backend="scripted")
            silent = {*refs}
            while silent:
                silent.discard((await line.until(lambda event: event["type"] == "message"))["ref"])
            daemon.signal(15)
            with trio.fail_after(12):
                assert await line.closed() == 1001
            last = {ref: line.of(ref)[-1] for ref in refs}
            assert {event["type"] for event in last.values()} == {"error"}
            assert {event["content"]["code"] for event in last.values()} == {"server_draining"}
            assert Counter(event["ref"] for event in line.told if event["type"] == "error") == dict.fromkeys(
                refs, 1
            )
        assert await daemon.wait_ended() == 0


# What the connection itself sees to, with a service that does as it is told.


class Source:
    """A follower of a run that gives these pages, and then waits until `rest` is set before its last event."""

    def __init__(self, run_id, pages=(), rest=None):
        self.identity = Identity(run_id, "ses_1", "stub")
        self.closed = trio.Event()
        self._pages = list(pages)
        self._rest = rest
        self._seq = 0

    def close(self):
        self.closed.set()

    def __aiter__(self):
        return self

    async def __anext__(self):
        await trio.lowlevel.checkpoint()
        if self._pages:
            return [self._entry(content) for content in self._pages.pop(0)]
        if self._rest is None:
            raise StopAsyncIteration
        rest, self._rest = self._rest, None
        await rest.wait()
        return [self._entry(Complete("end_turn"))]

    def _entry(self, content):
        self._seq += 1
        return Entry(
            content.TYPE, "stub", content, "2026-01-02T03:04:05.678Z", self.identity.run_id, self._seq
        )


class Stub:
    """A service whose runs are the test's own."""

    def __init__(self, *sources, started=None):
        self.stopping = False
        self.sources = {source.identity.run_id: source for source in sources}
        self.cancelled = []
        self._started = started

    async def start(self, call):
        if call.prompt.text == "crash":
            raise RuntimeError("no")
        await self._started.wait()
        return Started(self.sources[call.prompt.text].identity, call.options, 0.0)

    async def follow(self, run_id, _caller, _after=0):
        return self.sources[run_id]

    async def cancel(self, run_id, _caller):
        self.cancelled.append(run_id)
        return True


@asynccontextmanager
async def stubbed(stub, **limits):
    app = QuartTrio("stub")
    websocket.register(app, stub)
    async with serving(app, **limits) as server:
        yield server


@asynccontextmanager
async def line_to(server):
    async with open_websocket_url(f"ws://127.0.0.1:{server.port}{PATH}", message_queue_size=64) as connection:
        try:
            yield Line(connection)
        finally:
            await let_go(connection)


def pages(number, size, text="x"):
    return [[Message(text)] * size for _ in range(number)]


async def test_a_peer_that_answers_no_ping_is_dropped_and_its_runs_are_left():
    source = Source("a", rest=trio.Event())
    async with stubbed(Stub(source), ws_ping_s=0.2) as server:
        before = await settled()
        stream = await opened(server.port)
        await stream.send_all(op("attach", ref="r", run_id="a"))
        with trio.fail_after(2):
            await source.closed.wait()  # it reads nothing and answers no ping
        await stream.aclose()
        assert await settled() == before


async def test_a_peer_that_answers_pings_keeps_its_run():
    rest = trio.Event()
    source = Source("a", rest=rest)
    async with stubbed(Stub(source), ws_ping_s=0.1) as server, line_to(server) as line:
        await line.send("attach", ref="r", run_id="a")
        await trio.sleep(0.7)
        assert not source.closed.is_set()
        rest.set()
        await line.ends("r")
    assert source.closed.is_set()


async def test_a_peer_that_reads_nothing_is_dropped_in_the_servers_time():
    sources = [Source(name, pages(1000, 512, "x" * 1000)) for name in "ab"]
    async with stubbed(Stub(*sources), write_stall_s=0.3) as server:
        stream = await opened(server.port, receive_buffer=4096)
        for source in sources:
            await stream.send_all(op("attach", ref="r", run_id=source.identity.run_id))
        with trio.fail_after(3):
            for source in sources:
                await source.closed.wait()
        await stream.aclose()


async def test_a_run_holds_back_another_by_its_turn_at_most():
    rest = trio.Event()
    rest.set()
    busy = [Source(name, pages(5, 512)) for name in "abc"]
    quiet = Source("q", pages(5, 1), rest=rest)
    async with stubbed(Stub(*busy, quiet)) as server, line_to(server) as line:
        for source in (*busy, quiet):
            await line.send("attach", ref=source.identity.run_id, run_id=source.identity.run_id)
        await line.ends("q")
        order = "".join(event["ref"] for event in line.told)
        between = order[order.index("q") : order.rindex("q")].split("q")[1:-1]
        assert between
        assert max(map(len, between)) <= len(busy) * websocket.TURN


async def test_a_prompt_that_has_not_begun_holds_back_no_other_frame():
    rest, done = trio.Event(), trio.Event()
    done.set()
    source, other = Source("a", rest=rest), Source("b", pages(1, 1), rest=done)
    stub = Stub(source, other, started=trio.Event())
    async with stubbed(stub) as server, line_to(server) as line:
        await line.send("prompt", ref="1", prompt="a")
        await line.send("attach", ref="2", run_id="b")
        await line.ends("2")
        stub._started.set()
        await line.send("cancel", ref="1")
        assert (await line.next())["type"] == "cancelled"
        assert stub.cancelled == ["a"]
        rest.set()
        await line.ends("1")


async def test_a_fault_of_our_own_is_an_error_event_and_the_connection_stays(caplog):
    stub = Stub(Source("a", pages(1, 2)))
    async with stubbed(stub) as server, line_to(server) as line:
        told = await line.ask("prompt", ref="1", prompt="crash")
        assert (told["ref"], told["content"]["code"]) == ("1", "internal_error")
        await line.send("attach", ref="2", run_id="a")
        assert (await line.next())["seq"] == 1


@pytest.mark.parametrize("slow", [False, True])
async def test_what_is_under_way_is_told_before_1001(slow):
    rest = trio.Event()
    sources = [Source(str(number), pages(3, 512, "x" * 100), rest=rest) for number in range(5)]
    async with stubbed(Stub(*sources), shutdown_grace_s=3) as server, line_to(server) as line:
        for source in sources:
            await line.send("attach", ref=source.identity.run_id, run_id=source.identity.run_id)
        await line.next()
        rest.set()
        server.stop.set()  # as the daemon does: the runs have ended, much of them is not yet read
        assert await line.closed(0.05 if slow else 0.0) == 1001
        for source in sources:
            assert len(line.of(source.identity.run_id)) == 3 * 512 + 1


async def test_a_run_that_does_not_end_delays_the_end_by_half_the_grace():
    source = Source("a", pages(1, 1), rest=trio.Event())
    async with stubbed(Stub(source), shutdown_grace_s=1) as server, line_to(server) as line:
        await line.send("attach", ref="a", run_id="a")
        await line.next()
        server.stop.set()
        began = trio.current_time()
        assert await line.closed() == 1001
        assert 0.4 < trio.current_time() - began < 0.9


async def test_nothing_of_a_connection_survives_it():
    stub = Stub(*(Source(str(number), rest=trio.Event()) for number in range(20)), started=trio.Event())
    async with stubbed(stub) as server:
        before = await settled()
        async with line_to(server) as line:
            for name in stub.sources:
                await line.send("attach", ref=name, run_id=name)
            await line.send("prompt", ref="never", prompt="0")
            await trio.sleep(0.1)
        await soon(lambda: all(source.closed.is_set() for source in stub.sources.values()))
        assert await settled() == before
