"""Many runs over one websocket: `/api/v1/ws` (contract, section 6; its frames are in `websocket_frames`).

Every run has a task of its own that follows it, with its own page of events; they take turns at the socket, `TURN` frames
each, so that no run holds back another for longer. When the peer goes, so do they, and their runs find themselves deserted.
A bad frame is answered, and the connection stays; who sends more frames than `RATE` is closed with 1008.
"""

from collections.abc import Iterable
from contextlib import closing
from itertools import islice
from typing import cast

import msgspec
import trio
from msgspec import UNSET
from quart import Websocket, websocket
from quart_trio import QuartTrio

from actors.change import Change
from actors.errors import ActorDied, Code, Refusal
from actors.log import timestamp
from actors.messages import as_failed
from actors.run import Answer
from clinvoker.api.exchange import caller, client
from clinvoker.api.frames import with_types
from clinvoker.api.guard import COUNT_AGAIN, CountAgain
from clinvoker.api.operation import Operation
from clinvoker.api.websocket_frames import (
    Answered,
    AttachFrame,
    CancelFrame,
    Cancelled,
    ChainFrame,
    CompareFrame,
    Detached,
    Ended,
    ErrorEvent,
    ParallelFrame,
    PermissionFrame,
    PromptFrame,
    Ref,
    StartFrame,
    call_of,
    read,
    ref_of,
)
from clinvoker.errors import typed
from clinvoker.follower import Follower
from clinvoker.http.exchange import current
from clinvoker.logs import get_logger
from clinvoker.service import Service

MAX_OPEN = 64
"""Runs that one connection may have open."""

RATE = 100.0
"""Frames a second that a client may send."""

BURST = 200
"""Frames that it may send at once."""

TURN = 64
"""Frames that a run sends before the others have their turn."""

POLICY_VIOLATION = 1008

_log = get_logger("clinvoker.api")
_encode = msgspec.json.Encoder().encode


def register(app: QuartTrio, service: Service) -> None:
    """Add the route."""

    @app.websocket("/api/v1/ws")
    @Operation(summary="Many runs over one websocket", refusals=(404,), status=101)
    async def serve() -> None:  # pyright: ignore[reportUnusedFunction] - quart keeps it
        await websocket.accept()  # pyright: ignore[reportUnknownMemberType] - quart says `dict`
        runs = RunSocket(service, caller(), client(), websocket)
        if exchange := current():
            exchange.before_going_away(runs.wait_quiet)
        await runs.serve()


class Opened:
    """A run that is followed here, from the frame that asks for it on."""

    def __init__(self, ref: str) -> None:
        self.ref = ref
        self.run_id = ""
        """Empty until the run has begun."""


class RunSocket:
    """One connection: reads the client's frames, and follows its runs beside that."""

    _nursery: trio.Nursery

    def __init__(self, service: Service, caller: str, client: str, websocket: Websocket) -> None:
        self._service = service
        self._caller, self._client = caller, client
        self._count = cast("dict[str, CountAgain]", websocket.scope).get(COUNT_AGAIN, _count_nothing)
        self._receive, self._write, self._close = websocket.receive, websocket.send, websocket.close
        self._turn = trio.Lock()
        self._opened: list[Opened] = []
        self._changed = Change()
        self._paid_until = 0.0

    async def serve(self) -> None:
        """Serve until the peer goes, which cancels this, or floods."""
        async with trio.open_nursery() as self._nursery:
            while self._in_time():
                await self._take(await self._receive())
            # This turn is never over: nothing may come after a close frame.
            await self._turn.acquire()
            await self._close(POLICY_VIOLATION, f"more than {RATE:g} frames a second")
            self._nursery.cancel_scope.cancel()

    async def wait_quiet(self) -> None:
        """Wait until no run is open: all have told their last event."""
        await self._changed.wait_until(lambda: not self._opened)

    # Reading.

    def _in_time(self) -> bool:
        """Count a frame; False if there were too many."""
        now = trio.current_time()
        self._paid_until = max(self._paid_until, now) + 1 / RATE
        return self._paid_until - now <= BURST / RATE

    async def _take(self, data: str | bytes) -> None:
        try:
            await self._act(data)
        except Exception as error:  # noqa: BLE001 - whatever is wrong with one frame, the connection stays
            await self._send_error(error, ref_of(data))

    async def _act(self, data: str | bytes) -> None:
        match read(data):
            case PromptFrame() | ParallelFrame() | ChainFrame() | CompareFrame() | AttachFrame() as frame:
                self._open(frame)
            case CancelFrame() as frame:
                run_id = frame.run_id or await self._run_under(frame.ref)
                going = await self._service.cancel(run_id, self._caller)
                await self._send([_encode(Cancelled(frame.ref, run_id, going))])
            case PermissionFrame() as frame:
                await self._permit(frame)
                await self._send([_encode(Answered(frame.ref, frame.run_id, frame.id, frame.option))])

    async def _run_under(self, ref: Ref) -> str:
        """The run that was opened under a ref, once it has begun."""
        if ref is UNSET:
            raise Refusal(Code.INVALID_REQUEST, "run_id or ref is required", param="run_id")
        opened = next((one for one in reversed(self._opened) if one.ref == ref), Opened(""))
        await self._changed.wait_until(lambda: opened.run_id or opened not in self._opened)
        if not opened.run_id:
            raise Refusal(Code.NOT_FOUND, "no run is open here under this ref", param="ref")
        return opened.run_id

    async def _permit(self, frame: PermissionFrame) -> None:
        run = await self._service.live_run(frame.run_id, self._caller)
        if run is None:
            await self._service.stored_run(frame.run_id, self._caller)
            raise Refusal(Code.NOT_FOUND, "the run has ended: nothing is asked any more", param="id")
        await run.ask(Answer(frame.id, frame.option))

    # Following.

    def _open(self, frame: StartFrame | AttachFrame) -> None:
        if len(self._opened) >= MAX_OPEN:
            message = f"a connection may have {MAX_OPEN} runs open"
            raise Refusal(Code.RATE_LIMITED, message)
        opened = Opened(frame.ref)
        self._opened.append(opened)
        self._nursery.start_soon(self._run, frame, opened)

    async def _run(self, frame: StartFrame | AttachFrame, opened: Opened) -> None:
        """Follow a run to its end."""
        try:
            if isinstance(frame, AttachFrame):
                opened.run_id = frame.run_id
                follower = await self._service.follow(frame.run_id, self._caller, frame.after)
            else:
                follower = await self._begin(frame, opened)
            with closing(follower):
                await self._relay(follower, frame.ref)
        except Exception as error:  # noqa: BLE001 - it ends this run's reader only, and the client is told
            await self._send_error(error, frame.ref)
        finally:
            self._opened.remove(opened)
            self._changed.announce()

    async def _begin(self, frame: StartFrame, opened: Opened) -> Follower:
        await self._count()
        identity = (await self._service.start(call_of(frame, self._caller, self._client))).identity
        opened.run_id = identity.run_id
        self._changed.announce()
        if frame.detach:
            await self._send([_encode(Detached(frame.ref, identity.run_id, identity.session_id))])
        return await self._service.follow(identity.run_id, self._caller)

    async def _relay(self, follower: Follower, ref: str) -> None:
        head = b'{"ref":%b,' % _encode(ref)
        silent = True
        async for page in follower:
            silent = False
            await self._send(head + _encode(entry)[1:] for entry in with_types(page))
        if silent:
            await self._send([_encode(Ended(ref, follower.identity.run_id))])

    # Writing.

    async def _send(self, frames: Iterable[bytes]) -> None:
        """Send frames in their order. A peer that does not take them is dropped by the HTTP ground in its time."""
        rest = iter(frames)
        while turn := list(islice(rest, TURN)):
            async with self._turn:
                for frame in turn:
                    await self._write(frame.decode())

    async def _send_error(self, error: Exception, ref: Ref) -> None:
        match error:
            case Refusal() as refusal:
                pass
            case ActorDied() if self._service.stopping:
                refusal = Refusal(Code.DRAINING, "the daemon is shutting down", retry_after=5.0)
            case _:
                _log.error("a websocket's frame failed", exc_info=error)
                refusal = Refusal(Code.INTERNAL, "the daemon failed; its log says more")
        await self._send([_encode(ErrorEvent(ref, typed(as_failed(refusal)), timestamp()))])


async def _count_nothing() -> None:
    """How requests are counted that no guard let in."""
