"""Fan-outs over REST: `POST /api/v1/parallel`, `/chain` and `/compare` (contract, section 3)."""

import hashlib
from functools import partial
from typing import Literal

import msgspec
from msgspec import UNSET, Struct
from msgspec.structs import replace
from quart import Response
from quart_trio import QuartTrio

from actors.messages import Complete, Entry, Failed, as_refusal
from clinvoker.api.exchange import answer_run, body, caller, client, framing, idempotency_key, reply
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
from clinvoker.errors import body_of
from clinvoker.fanout.results import ChainResult, CompareResult, ParallelResult
from clinvoker.follower import Follower
from clinvoker.service import Service


class DetachedFanout(Struct, frozen=True):
    """The answer to a detached fan-out."""

    run_id: str


class DryRunFanout(Struct, frozen=True):
    """What a fan-out would start: its tasks, steps or backends in order."""

    dry_run: Literal[True]
    results: list[DryRun]


ROUTES = (
    ("parallel", "Many turns at once", ParallelRequest, ParallelResult),
    ("chain", "Turns one after the other, each told what came before", ChainRequest, ChainResult),
    ("compare", "One prompt to several backends", CompareRequest, CompareResult),
)


def register(app: QuartTrio, service: Service) -> None:
    """Add the routes."""
    for kind, summary, request, result in ROUTES:
        told = Operation(
            summary=summary,
            body=request,
            answers=(result, DetachedFanout, DryRunFanout),
            streams={SSE: Entry, NDJSON: Entry},
            parameters=(IDEMPOTENCY,),
            refusals=(404, *TURN),
        )
        app.add_url_rule(f"/api/v1/{kind}", kind, told(partial(_answer, service, request)), methods=["POST"])


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
    frame = framing(stream=asked.stream, ndjson=asked.output_format == "stream-json")
    return await answer_run(service, run_id, _whole, frame)


async def _whole(follower: Follower, page: list[Entry]) -> msgspec.Raw:
    """The result that the run's last event carries, as one JSON object; with `error` if the run itself failed."""
    async for later in follower:
        page = later
    last = page[-1].content
    if not isinstance(last, Complete | Failed) or last.result is UNSET:
        raise as_refusal(last) if isinstance(last, Failed) else RuntimeError("a fan-out without a result")
    if isinstance(last, Complete):
        return last.result
    error = body_of(last)
    return msgspec.Raw(b'{"error":%b,%b' % (msgspec.json.encode(error), bytes(last.result)[1:]))
