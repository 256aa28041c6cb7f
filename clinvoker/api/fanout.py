"""Fan-outs over REST: `POST /api/v1/parallel`, `/chain` and `/compare` (contract, section 3)."""

import hashlib
from typing import Literal

import msgspec
from msgspec import UNSET, Struct
from msgspec.structs import replace
from quart import Response
from quart_trio import QuartTrio

from actors.messages import Complete, Entry, Failed, as_refusal
from clinvoker.api.errors import Body, type_of
from clinvoker.api.exchange import body, caller, client, first_page, framing, idempotency_key, reply, stream
from clinvoker.api.fanout_requests import (
    ChainRequest,
    CompareRequest,
    FanoutRequest,
    ParallelRequest,
    to_fanout,
)
from clinvoker.api.native import IDEMPOTENCY, DryRun, would_start
from clinvoker.api.operation import NDJSON, SSE, TURN, Operation
from clinvoker.api.requests import decode
from clinvoker.fanout.results import ChainResult, CompareResult, ParallelResult
from clinvoker.follower import Follower
from clinvoker.http.stream import current_request_stack
from clinvoker.service import Service


class DetachedFanout(Struct, frozen=True):
    """The answer to a detached fan-out."""

    run_id: str


class DryRunFanout(Struct, frozen=True):
    """What a fan-out would start: its tasks, steps or backends in order."""

    dry_run: Literal[True]
    results: list[DryRun]


def register(app: QuartTrio, service: Service) -> None:
    """Add the routes."""

    @app.post("/api/v1/parallel")
    @Operation(
        summary="Many turns at once",
        body=ParallelRequest,
        answers=(ParallelResult, DetachedFanout, DryRunFanout),
        streams={SSE: Entry, NDJSON: Entry},
        parameters=(IDEMPOTENCY,),
        refusals=(404, *TURN),
    )
    async def parallel() -> Response:  # pyright: ignore[reportUnusedFunction] - quart keeps it
        return await _answer(service, ParallelRequest)

    @app.post("/api/v1/chain")
    @Operation(
        summary="Turns one after the other, each told what came before",
        body=ChainRequest,
        answers=(ChainResult, DetachedFanout, DryRunFanout),
        streams={SSE: Entry, NDJSON: Entry},
        parameters=(IDEMPOTENCY,),
        refusals=(404, *TURN),
    )
    async def chain() -> Response:  # pyright: ignore[reportUnusedFunction]
        return await _answer(service, ChainRequest)

    @app.post("/api/v1/compare")
    @Operation(
        summary="One prompt to several backends",
        body=CompareRequest,
        answers=(CompareResult, DetachedFanout, DryRunFanout),
        streams={SSE: Entry, NDJSON: Entry},
        parameters=(IDEMPOTENCY,),
        refusals=(404, *TURN),
    )
    async def compare() -> Response:  # pyright: ignore[reportUnusedFunction]
        return await _answer(service, CompareRequest)


async def _answer(service: Service, kind: type[FanoutRequest]) -> Response:
    data = await body()
    asked = decode(data, kind)
    call = to_fanout(asked, caller(), client())
    call = replace(call, idempotency_key=idempotency_key(), body_hash=hashlib.sha256(data).digest())
    if asked.dry_run:
        planned = await service.plan_fanout(call)
        return reply(DryRunFanout(True, [would_start(*each) for each in planned]))  # noqa: FBT003
    run_id = (await service.start(call)).identity.run_id
    if asked.detach:
        return reply(DetachedFanout(run_id))
    follower = await service.follow(run_id, caller())
    current_request_stack().callback(follower.close)
    first = await first_page(follower)
    frame = framing(stream=asked.stream, ndjson=asked.output_format == "stream-json")
    if frame is not None:
        return stream(service, follower, frame, first)
    return Response(await _whole(follower, first), content_type="application/json")


async def _whole(follower: Follower, page: list[Entry]) -> bytes:
    """The result that the run's last event carries, as one JSON object; with `error` if the run itself failed."""
    async for later in follower:
        page = later
    last = page[-1].content
    if not isinstance(last, Complete | Failed) or last.result is UNSET:
        raise as_refusal(last) if isinstance(last, Failed) else RuntimeError("a fan-out without a result")
    result = bytes(last.result)
    if isinstance(last, Complete):
        return result
    error = Body(last.code, last.message, None, type_of(last.code), last.retry_after)
    return b'{"error":%b,%b' % (msgspec.json.encode(error), result[1:])
