"""A JSON-RPC peer: requests find their answers, whatever arrives is survived, and a hot line costs next to nothing."""

import json
import time
from itertools import pairwise

import msgspec
import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from actors.driver import LinkClosed, ProtocolBroken
from actors.process import ProcessGone
from clinvoker.backends.jsonrpc import Peer, RpcError
from clinvoker.backends.surrogates import Joiner, mend


class Wire:
    """A peer whose lines are kept, and what it handed on."""

    def __init__(self, *, version=True):
        self.sent = []
        self.notifications = []
        self.calls = []
        self.gone = False
        self.peer = Peer(
            self.send,
            on_notification=lambda method, params: self.notifications.append((method, bytes(params))),
            on_request=self.calls.append,
            version=version,
        )

    async def send(self, data):
        await trio.lowlevel.checkpoint()
        if self.gone:
            raise ProcessGone("gone")
        assert data.endswith(b"\n")
        self.sent += [json.loads(line) for line in data.splitlines()]

    def feed(self, **members):
        self.peer.feed(json.dumps(members).encode())

    async def sent_all(self, count):
        while len(self.sent) < count:
            await trio.lowlevel.checkpoint()


async def test_answers_find_their_requests_in_any_order(nursery):
    wire = Wire()
    got = {}

    async def ask(name):
        got[name] = await wire.peer.request(name, {"x": 1}, dict[str, str])

    nursery.start_soon(ask, "a")
    nursery.start_soon(ask, "b")
    await wire.sent_all(2)
    for line in reversed(wire.sent):
        wire.feed(jsonrpc="2.0", id=line["id"], result={"to": line["method"]})
    await trio.testing.wait_all_tasks_blocked()
    assert got == {"a": {"to": "a"}, "b": {"to": "b"}}
    assert all(line["jsonrpc"] == "2.0" and line["params"] == {"x": 1} for line in wire.sent)


async def test_the_version_member_can_be_left_out():
    wire = Wire(version=False)
    await wire.peer.notify("initialized")
    await wire.peer.notify("x", {"y": 1})
    assert wire.sent == [{"method": "initialized"}, {"method": "x", "params": {"y": 1}}]


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        ({"error": {"code": -32000, "message": "log in", "data": {"x": 1}}}, RpcError),
        ({"error": {}}, RpcError),
        ({"result": "text"}, ProtocolBroken),
        ({"result": None}, ProtocolBroken),
    ],
)
async def test_an_error_and_another_shape_are_told_apart(answer, error, nursery):
    wire = Wire()

    async def reply():
        await wire.sent_all(1)
        wire.feed(id=wire.sent[0]["id"], **answer)

    nursery.start_soon(reply)
    with pytest.raises(error) as caught:
        await wire.peer.request("m", {}, dict[str, int])
    if answer.get("error"):
        assert (caught.value.code, caught.value.message, caught.value.data) == (-32000, "log in", {"x": 1})


async def test_the_end_of_the_output_ends_every_wait_now_and_later(nursery):
    wire = Wire()

    async def close():
        await wire.sent_all(1)
        wire.peer.closed()

    nursery.start_soon(close)
    with pytest.raises(LinkClosed):
        await wire.peer.request("m", {}, object)
    with pytest.raises(LinkClosed):
        await wire.peer.request("m", {}, object)
    with pytest.raises(LinkClosed):
        await wire.peer.notify("m")


async def test_a_process_that_takes_no_more_input_is_a_closed_link():
    wire = Wire()
    wire.gone = True
    with pytest.raises(LinkClosed):
        await wire.peer.request("m", {}, object)


async def test_an_answer_that_arrived_before_the_end_counts():
    wire = Wire()
    request = wire.peer.prepare("m", {})
    await request.send()
    wire.feed(id=request.id, result={"a": 1})
    wire.peer.closed()
    assert await request.answer(dict[str, int]) == {"a": 1}


async def test_an_answer_nobody_waits_for_any_more_is_ignored():
    wire = Wire()
    with trio.move_on_after(0.01):
        await wire.peer.request("m", {}, object)
    wire.feed(id=wire.sent[0]["id"], result={})
    wire.feed(id=77, result={})
    wire.feed(id="x", error={"code": 1, "message": ""})
    assert wire.peer.unparsed == 0


async def test_requests_of_the_other_side_are_answered():
    wire = Wire()
    wire.feed(id=0, method="ask", params={"q": 1})
    wire.feed(id="s", method="ask")
    assert [(call.id, call.method, bytes(call.params)) for call in wire.calls] == [
        (0, "ask", b'{"q": 1}'),
        ("s", "ask", b"null"),
    ]
    await wire.peer.respond(0, {"ok": True})
    await wire.peer.respond_error("s", -32602, "bad")
    assert [{key: line[key] for key in line if key != "jsonrpc"} for line in wire.sent] == [
        {"id": 0, "result": {"ok": True}},
        {"id": "s", "error": {"code": -32602, "message": "bad"}},
    ]


async def test_what_is_owed_goes_out_while_somebody_waits(nursery):
    wire = Wire()
    nursery.start_soon(wire.peer.request, "long", {}, object)
    await wire.sent_all(1)
    wire.feed(id=5, method="fs/read_text_file", params={})
    wire.peer.decline(wire.calls[0])
    await wire.sent_all(2)
    assert wire.sent[1]["error"]["code"] == -32601
    nursery.cancel_scope.cancel()


async def test_what_is_owed_goes_out_before_the_next_line():
    wire = Wire()
    wire.feed(id=5, method="m")
    wire.peer.owe(wire.calls[0], {"outcome": "none"})
    await wire.peer.notify("next")
    assert [line.get("id", line.get("method")) for line in wire.sent] == [5, "next"]


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"Loading...",
        b"{}",
        b"[]",
        b"null",
        b"7",
        b'{"id": 1}',
        b'{"id": {}, "result": 1}',
        b'{"id": null, "result": 1}',
        b'{"method": 7}',
        b'{"method": "m", "params": {"x": }}',
        b'{"error": {"code": "E"}, "id": 1}',
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"method": "m", "params": ' + b"[" * 100_000,
    ],
)
async def test_nonsense_is_counted_and_survived(line):
    wire = Wire()
    wire.peer.feed(line)
    assert (wire.peer.unparsed, wire.notifications, wire.calls) == (1, [], [])
    wire.feed(method="m", params={})
    assert len(wire.notifications) == 1


@given(st.binary())
async def test_no_bytes_raise(line):
    Wire().peer.feed(line)


async def test_a_callback_that_cannot_decode_its_parameters_counts_the_line():
    peer = Peer(
        Wire().send,
        on_notification=lambda _method, params: msgspec.json.decode(params, type=int),
        on_request=lambda _call: None,
    )
    peer.feed(b'{"method":"m","params":"x"}')
    peer.feed(b'{"method":"m","params":1}')
    assert peer.unparsed == 1


async def test_half_a_character_costs_no_line():
    wire = Wire()
    wire.peer.feed(b'{"method":"m","params":{"text":"\\ud83d"}}')
    assert wire.peer.unparsed == 0
    assert json.loads(wire.notifications[0][1])["text"]


async def test_fifty_thousand_notifications_cost_a_fraction_of_a_second():
    class Params(msgspec.Struct, gc=False):
        text: str

    decode = msgspec.json.Decoder(Params).decode
    seen = []
    peer = Peer(
        Wire().send,
        on_notification=lambda _method, params: seen.append(decode(params).text),
        on_request=lambda _call: None,
    )
    line = b'{"jsonrpc":"2.0","method":"item/agentMessage/delta","params":{"threadId":"t","text":" word"}}'
    began = time.process_time()
    for _ in range(50_000):
        peer.feed(line)
    assert time.process_time() - began < 0.3
    assert len(seen) == 50_000


@given(
    st.text(st.characters(exclude_categories=["Cs", "Co"])),
    st.lists(st.integers(min_value=0, max_value=40), max_size=5),
)
def test_a_text_cut_anywhere_by_javascript_is_whole_again(text, cuts):
    units = text.encode("utf-16-le", "surrogatepass")
    bounds = [0, *sorted(2 * cut for cut in cuts), len(units)]
    pieces = [units[a:b].decode("utf-16-le", "surrogatepass") for a, b in pairwise(bounds)]
    joiner = Joiner()
    joined = "".join(joiner.feed(json.loads(mend(json.dumps(piece).encode()))) for piece in pieces)
    assert joined == text


def test_half_a_character_that_stays_half_is_replaced():
    joiner = Joiner()
    said = [
        joiner.feed(json.loads(mend(line))) for line in (b'"a\\ud83d"', b'"b"', b'"x\\ude42c"', b'"\\ud83d"')
    ]
    assert said == ["a", "\ufffdb", "x\ufffdc", ""]
    assert joiner.finish() == "\ufffd"
