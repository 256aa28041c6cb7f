"""The app's own start and stop (ASGI lifespan)."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import trio

from clinvoker.http.exchange import App
from clinvoker.http.inbox import Inbox, Message

START_S = 60.0


class LifespanError(RuntimeError):
    """The app could not start, or ended while it was being served."""


@asynccontextmanager
async def lifespan(app: App, stop_s: float) -> AsyncGenerator[None]:
    """Keep the app started inside the block; its stop may take `stop_s` seconds.

    hypercorn only logs a crash of the app's own tasks and goes on answering 200 with a dead app (platform.md row 8);
    here it cancels the block. An app that does not know the protocol is served without it.

    Raises (inside of an ExceptionGroup):
        LifespanError: the start failed, or the app's lifespan ended before its time.
    """
    talk = _Talk(app)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(talk.run)
        with trio.fail_after(START_S):
            await talk.started.wait()
        yield
        talk.ending = True
        if talk.spoken:
            with trio.move_on_after(stop_s):
                await talk.inbox.put({"type": "lifespan.shutdown"})
                await talk.stopped.wait()
        nursery.cancel_scope.cancel()


class _Talk:
    """One conversation in the lifespan protocol."""

    def __init__(self, app: App) -> None:
        self.inbox = Inbox()
        self.started = trio.Event()
        self.stopped = trio.Event()
        self.spoken = False
        self.ending = False
        self.failure: LifespanError | None = None
        self._app = app

    async def run(self) -> None:
        await self.inbox.put({"type": "lifespan.startup"})
        scope = {"type": "lifespan", "asgi": {"spec_version": "2.0", "version": "3.0"}, "state": {}}
        try:
            await self._app(scope, self.inbox.get, self.send)
        except Exception as error:
            if self.failure is not None:  # the app's nursery has wrapped it
                raise self.failure from error
            if self.spoken:
                raise LifespanError("the app's own tasks crashed") from error
        self.started.set()
        self.stopped.set()
        if self.spoken and not self.ending:
            raise LifespanError("the app ended while it was being served")

    async def send(self, message: Message) -> None:
        kind = message["type"]
        if kind == "lifespan.startup.complete":
            self.spoken = True
            self.started.set()
        elif kind == "lifespan.shutdown.complete":
            self.stopped.set()
        elif kind.endswith(".failed"):
            self.failure = LifespanError(message.get("message", "") or kind)
            raise self.failure
        await trio.lowlevel.checkpoint()
