"""What the connection itself sees to, with a service that does as it is told."""

from contextlib import asynccontextmanager

import pytest
import trio
from quart_trio import QuartTrio
from trio_websocket import open_websocket_url

from actors.messages import Complete, Entry, Message
from actors.run import Identity
from clinvoker.api import websocket
from clinvoker.service import Started
from tests.api.websocket.support import PATH, Line, let_go, op, opened
from tests.http.support import eventually as soon
from tests.http.support import serving, settled


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
