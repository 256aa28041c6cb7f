"""Runs over REST: looked at, followed from any event, cancelled, answered (contract, section 3)."""

from contextlib import suppress
from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, Raw, Struct, UnsetType
from quart import Response, request
from quart_trio import QuartTrio
from quart_trio.wrappers import TrioResponse

from actors.errors import ActorDied, Code, Refusal
from actors.messages import Complete, Entry, Failed
from actors.run import Answer, Identify, Look
from clinvoker.api import frames
from clinvoker.api.exchange import body, caller, reply, stream
from clinvoker.api.operation import NDJSON, SCHEMAS, SSE, Operation, Parameter
from clinvoker.api.requests import decode, whole_number
from clinvoker.errors import typed
from clinvoker.http.stream import current_request_stack
from clinvoker.service import Service
from clinvoker.store import RunRecord

Word = Annotated[str, Meta(max_length=256)]
MOST_SEQ = 10**15 - 1
"""Number of an event, beyond any run."""

Seq = Annotated[int, Meta(ge=0, le=MOST_SEQ)]
Outcome = Annotated[
    Raw, Meta(extra_json_schema={"oneOf": [{"$ref": SCHEMAS + name} for name in ("Complete", "Failed")]})
]


class PermissionAnswer(Struct, frozen=True, forbid_unknown_fields=True):
    """`POST /runs/{id}/permissions/{pid}`."""

    option: Word


class RunInfo(Struct, frozen=True, omit_defaults=True):
    """`GET /runs/{id}`. Times in seconds since 1970; `outcome` is the content of the run's last event."""

    run_id: str
    session_id: str | None
    backend: str
    status: str
    began: float | UnsetType = UNSET
    ended: float | UnsetType = UNSET
    outcome: Outcome | UnsetType = UNSET


class CancelAnswer(Struct, frozen=True):
    """`POST /runs/{id}/cancel`: whether the run was still going."""

    run_id: str
    cancelled: bool


class Answered(Struct, frozen=True):
    """The answer to `POST /runs/{id}/permissions/{pid}`."""

    run_id: str
    id: str
    option: str


def register(app: QuartTrio, service: Service) -> None:
    """Add the routes."""

    @app.get("/api/v1/runs/<run_id>")
    @Operation(summary="How a run stands, or ended", answers=(RunInfo,), refusals=(404,))
    async def get_run(run_id: str) -> Response:  # pyright: ignore[reportUnusedFunction] - quart keeps it
        return reply(await _describe(service, run_id))

    @app.get("/api/v1/runs/<run_id>/events")
    @Operation(
        summary="A run's events: what was said is replayed, what is still said is followed",
        streams={SSE: Entry, NDJSON: Entry},
        parameters=(
            Parameter("after", "number of the last event that the reader has", Seq),
            Parameter("Last-Event-ID", "the same, as SSE clients send it by themselves", Seq, "header"),
        ),
        refusals=(404,),
    )
    async def events(run_id: str) -> TrioResponse:  # pyright: ignore[reportUnusedFunction]
        follower = await service.follow(run_id, caller(), _after())
        current_request_stack().callback(follower.close)
        accepted = request.accept_mimetypes.best_match(["text/event-stream", "application/x-ndjson"])
        return stream(service, follower, frames.NDJSON if accepted == "application/x-ndjson" else frames.SSE)

    @app.post("/api/v1/runs/<run_id>/cancel")
    @Operation(summary="Stop a run and its processes", answers=(CancelAnswer,), refusals=(404,))
    async def cancel(run_id: str) -> Response:  # pyright: ignore[reportUnusedFunction]
        return reply(CancelAnswer(run_id, await service.cancel(run_id, caller())))

    @app.post("/api/v1/runs/<run_id>/permissions/<permission>")
    @Operation(
        summary="Answer an agent's question", body=PermissionAnswer, answers=(Answered,), refusals=(404,)
    )
    async def permit(run_id: str, permission: str) -> Response:  # pyright: ignore[reportUnusedFunction]
        answer = decode(await body(), PermissionAnswer)
        run = await service.live_run(run_id, caller())
        if run is None:
            await service.stored_run(run_id, caller())
        else:
            with suppress(ActorDied):
                await run.ask(Answer(permission, answer.option))
                return reply(Answered(run_id, permission, answer.option))
        raise Refusal(Code.NOT_FOUND, "the run has ended: nothing is asked any more", param="id")


def _after() -> int:
    """The number of the last event that the reader has: `?after=`, else the header an SSE client sends by itself."""
    told = {"after": request.args.get("after"), "Last-Event-ID": request.headers.get("last-event-id")}
    numbers = [whole_number(text, param, 0, MOST_SEQ) for param, text in told.items() if text is not None]
    return numbers[0] if numbers else 0


async def _describe(service: Service, run_id: str) -> RunInfo:
    live = await service.live_run(run_id, caller())
    if live is not None:
        with suppress(ActorDied):
            identity, outcome = await live.ask(Identify()), await live.ask(Look())
            record = await service.store.run(run_id, caller())
            if record is not None and (record.status != "running" or outcome is None):
                return _stored(record)
            # Not stored yet, or never to be; or it could not be stored that it has ended.
            began = UNSET if record is None else record.began
            status = "running" if outcome is None else _status(outcome)
            told = (
                UNSET
                if outcome is None
                else msgspec.Raw(
                    msgspec.json.encode(typed(outcome) if isinstance(outcome, Failed) else outcome)
                )
            )
            return RunInfo(run_id, identity.session_id, identity.backend, status, began, outcome=told)
    return _stored(await service.stored_run(run_id, caller()))


def _status(outcome: Complete | Failed) -> str:
    return "complete" if isinstance(outcome, Complete) else "error"


def _stored(record: RunRecord) -> RunInfo:
    return RunInfo(
        record.id,
        record.session,
        record.backend,
        record.status,
        record.began,
        UNSET if record.ended is None else record.ended,
        msgspec.Raw(_outcome(record.outcome)) if record.outcome else UNSET,
    )


def _outcome(stored: bytes) -> bytes:
    """The content of a run's last event; an error's type is filled in, as where it was told."""
    try:
        return msgspec.json.encode(typed(msgspec.json.decode(stored, type=Failed)))
    except msgspec.ValidationError:  # it completed
        return stored
