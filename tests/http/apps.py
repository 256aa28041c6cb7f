"""The app under test, which keeps a diary of what happened to its handlers."""

from collections import Counter
from collections.abc import AsyncIterator

import trio
from quart import request, websocket
from quart_trio import QuartTrio

from clinvoker.http.exchange import current
from clinvoker.http.stream import current_request_stack, streaming


class Follower:
    """A source of batches that must be closed: one batch every `every_s`, for ever."""

    def __init__(self, diary: Counter, batch: bytes, every_s: float):
        self.diary = diary
        self.batch = batch
        self.every_s = every_s
        diary["opened"] += 1

    def close(self):
        self.diary["closed"] += 1

    async def batches(self) -> AsyncIterator[bytes]:
        self.diary["begun"] += 1
        while True:
            yield self.batch
            await trio.sleep(self.every_s)


def make_app() -> tuple[QuartTrio, Counter]:  # noqa: C901 - one small route after the other
    app = QuartTrio("tests")
    diary = Counter()

    def follow(batch: bytes, every_s: float, **options):
        follower = Follower(diary, batch, every_s)
        if current() is not None:  # the stock server has no exchanges
            current_request_stack().callback(follower.close)
        return streaming(follower.batches(), "text/event-stream", **options)

    @app.get("/health")
    async def health():
        return {"status": "ok"}

    @app.post("/length")
    async def length():
        return {"length": len(await request.get_data())}

    @app.get("/wait")
    async def wait():
        diary["waiting"] += 1
        try:
            await trio.sleep_forever()
        except trio.Cancelled:
            diary["cancelled"] += 1
            raise

    @app.get("/pause")
    async def pause():
        await trio.sleep(0.2)
        return "paused"

    @app.get("/ticks")
    async def ticks():
        return follow(b"data: tick\n\n", 0.02)

    @app.get("/quiet")
    async def quiet():
        return follow(b"data: once\n\n", 3600, heartbeat=b": beat\n\n", heartbeat_s=0.1)

    @app.get("/flood")
    async def flood():
        return follow(b"x" * 65536, 0)

    @app.get("/breaks")
    async def breaks():
        async def body():
            yield b"data: begun\n\n"
            raise ValueError("in the middle")

        return streaming(body(), "text/event-stream")

    @app.get("/slow-to-stream")
    async def slow_to_stream():
        response = follow(b"data: late\n\n", 3600)
        diary["handled"] += 1
        await trio.sleep(0.2)
        return response

    @app.websocket("/ws")
    async def echo():
        while True:
            message = await websocket.receive()
            diary["message"] += 1
            await websocket.send(message)

    @app.websocket("/deaf")
    async def deaf():
        await websocket.accept()
        diary["waiting"] += 1
        try:
            await trio.sleep_forever()
        except trio.Cancelled:
            diary["cancelled"] += 1
            raise

    return app, diary
