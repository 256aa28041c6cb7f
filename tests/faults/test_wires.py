"""Bad wires, and callers who leave at any byte: F33, F35 and F37."""

import json
import socket
import struct

import pytest
import trio

from tests.support.client import Client
from tests.support.daemon import become_true
from tests.support.toxics import Bandwidth, Latency, ResetPeer, Slicer, proxied

pytestmark = pytest.mark.daemon

TEXT = "all of it"
OFFSETS = 40
"""Places at which the caller leaves, spread over the whole."""
WIRES = {
    "slicer": Slicer(),
    "latency": Latency(0.3, 0.2),
    "bandwidth": Bandwidth(1000),
}


def order(prompt: str = TEXT, connection: str = "close") -> bytes:
    """A request for a stream, as bytes."""
    body = json.dumps({"prompt": prompt, "backend": "scripted", "ephemeral": True, "stream": True}).encode()
    head = "POST /api/v1/prompt HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    return f"{head}Connection: {connection}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


async def read(stream: trio.SocketStream, most: int = 1 << 30) -> bytes:
    """Read so many bytes, or to the end."""
    told = b""
    while len(told) < most and (data := await stream.receive_some(min(most - len(told), 65536))):
        told += data
    return told


async def leave(stream: trio.SocketStream, *, reset: bool) -> None:
    if reset:
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    await stream.aclose()


def places(length: int) -> list[int]:
    """Every so many bytes of what is `length` long, its first and its last among them."""
    return sorted({1, length - 1, *range(1, length, max(length // OFFSETS, 1))})


def ended(daemon) -> int:
    return len(daemon.logged("run ended"))


@pytest.mark.parametrize("reset", [False, True], ids=["close", "reset"])
async def test_f33_a_caller_may_leave_at_any_byte_of_his_request(daemon, reset):
    before = ended(daemon)
    for offset in places(len(order())):
        stream = await trio.open_tcp_stream("127.0.0.1", daemon.client.port)
        await stream.send_all(order()[:offset])
        await leave(stream, reset=reset)
    assert (await daemon.client.ask("after")).json["output"] == "after"
    await become_true(lambda: ended(daemon) == before + 1, 3)  # nothing ran of half a request


@pytest.mark.parametrize("reset", [False, True], ids=["close", "reset"])
async def test_f33_a_caller_may_leave_at_any_byte_of_his_answer(daemon, reset):
    async with await trio.open_tcp_stream("127.0.0.1", daemon.client.port) as stream:
        await stream.send_all(order())
        whole = await read(stream)
    daemon.client.unseen += 1
    assert whole.count(b'"type":"complete"') == 1, whole
    before = ended(daemon)
    offsets = places(len(whole))

    async def part(offset: int) -> None:
        async with room:
            stream = await trio.open_tcp_stream("127.0.0.1", daemon.client.port)
            await stream.send_all(order())
            await read(stream, offset)
            await leave(stream, reset=reset)

    room = trio.CapacityLimiter(4)
    async with trio.open_nursery() as nursery:
        for offset in offsets:
            nursery.start_soon(part, offset)
    daemon.client.unseen += len(offsets)
    # One end for each run, neither none nor two: the oracle counts the same in the metrics.
    await become_true(lambda: ended(daemon) == before + len(offsets), 10)


@pytest.mark.parametrize("behind", [b"x", order(), b"\0" * 5000], ids=len)
async def test_f35_what_is_sent_behind_a_request_hides_no_leaving(daemon, behind):
    stream = await trio.open_tcp_stream("127.0.0.1", daemon.client.port)
    before = ended(daemon)
    await stream.send_all(order("w{{wait:60}}", "keep-alive"))
    assert b" 200 " in await read(stream, 20)
    await stream.send_all(behind)
    await trio.sleep(0.05)  # so that it is read for itself
    await leave(stream, reset=False)
    await become_true(lambda: ended(daemon) == before + 1, 3)
    daemon.client.unseen += 1


async def test_f35_a_caller_who_closes_his_half_has_left(daemon):
    before = ended(daemon)
    async with await trio.open_tcp_stream("127.0.0.1", daemon.client.port) as stream:
        await stream.send_all(order("w{{wait:60}}"))
        assert b" 200 " in await read(stream, 20)
        await stream.send_eof()
        await become_true(lambda: ended(daemon) == before + 1, 3)
    daemon.client.unseen += 1


@pytest.mark.parametrize("name", WIRES)
async def test_f37_over_a_bad_wire_answers_come_late_and_whole(daemon, name):
    async with proxied(daemon.client.port, WIRES[name]) as port:
        far = Client(port)
        async with trio.open_nursery() as nursery:
            for stream in (False, True):
                nursery.start_soon(far.read if stream else far.ask, TEXT)
    daemon.client.answers += far.answers
    daemon.client.streams += far.streams
    assert far.answers[0].json["output"] == TEXT
    assert (far.streams[0].text, far.streams[0].code, far.streams[0].cut) == (TEXT, "", False)


@pytest.mark.parametrize("after", [1, 2000, 20_000])
async def test_f37_a_wire_that_breaks_in_the_middle_ends_the_run_and_no_other(daemon, after):
    before = ended(daemon)
    async with daemon.client.stream("{{pace:50,0.02}}") as other:
        await other.until("0")
        async with proxied(daemon.client.port, ResetPeer(after)) as port:
            stream = await trio.open_tcp_stream("127.0.0.1", port)
            await stream.send_all(order("{{flood:99999}}"))
            with pytest.raises(trio.BrokenResourceError):
                await read(stream)
            await stream.aclose()
        daemon.client.unseen += 1
        await become_true(lambda: ended(daemon) == before + 1, 3)
        assert (await other.to_end()).code == ""
