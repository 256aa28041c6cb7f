"""Sessions over REST: listed, looked at, changed, forked, deleted (contract, section 3)."""

from typing import Annotated, get_args

from msgspec import UNSET, Meta, Struct, UnsetType
from quart import Response, request
from quart_trio import QuartTrio

from actors.errors import Code, Refusal
from actors.messages import Usage
from clinvoker.api.exchange import body, caller, reply
from clinvoker.api.operation import Operation, Parameter
from clinvoker.api.requests import decode, whole_number
from clinvoker.config.settings import Line, Tag
from clinvoker.service import Service
from clinvoker.store import EditSession, SessionFilter, SessionRecord, SessionStatus, TurnRecord

MOST = 1000
"""Sessions on one page."""


class SessionInfo(Struct, frozen=True):
    """A session. Times in seconds since 1970; `turns` is how many there are."""

    id: str
    backend: str
    model: str
    workdir: str
    title: str
    tags: tuple[str, ...]
    metadata: dict[str, str]
    status: str
    parent: str | None
    created: float
    updated: float
    turns: int


class TurnInfo(Struct, frozen=True):
    """A turn of a session. `error` is the code of its failure, `ended` null while it is in hand."""

    number: int
    run_id: str
    prompt: str
    output: str
    error: str | None
    message: str
    token_usage: Usage | None
    started: float
    ended: float | None


class SessionAnswer(Struct, frozen=True):
    """`GET /sessions/{id}`: the session with its turns."""

    session: SessionInfo
    turns: list[TurnInfo]


class SessionList(Struct, frozen=True):
    """`GET /sessions`: a page, the most recently used first."""

    sessions: list[SessionInfo]
    total: int
    limit: int
    offset: int


class Deleted(Struct, frozen=True):
    """`DELETE /sessions/{id}`: with its whole id."""

    id: str
    deleted: bool = True


class SessionPatch(Struct, frozen=True, forbid_unknown_fields=True):
    """`PATCH /sessions/{id}`."""

    title: Line | UnsetType = UNSET
    tags: Annotated[tuple[Tag, ...], Meta(max_length=32)] | UnsetType = UNSET


def register(app: QuartTrio, service: Service) -> None:
    """Add the routes."""

    @app.get("/api/v1/sessions")
    @Operation(
        summary="Sessions, the most recently used first",
        answers=(SessionList,),
        parameters=(
            Parameter("backend", "only those of this backend"),
            Parameter("status", "only those that are so", SessionStatus),
            Parameter("tag", "only those with this tag"),
            Parameter("q", "only those with these words in prompts or answers"),
            Parameter("limit", "how many, 50 without it", Annotated[int, Meta(ge=0, le=MOST)]),
            Parameter("offset", "how many to pass over", Annotated[int, Meta(ge=0, le=2**31)]),
        ),
    )
    async def list_sessions() -> Response:  # pyright: ignore[reportUnusedFunction] - quart keeps it
        page = await service.store.sessions(_filter())
        return reply(
            SessionList([_info(each) for each in page.sessions], page.total, page.limit, page.offset)
        )

    @app.get("/api/v1/sessions/<session_id>")
    @Operation(summary="A session with its turns", answers=(SessionAnswer,), refusals=(404,))
    async def get_session(session_id: str) -> Response:  # pyright: ignore[reportUnusedFunction]
        record = await service.session(session_id, caller())
        turns = await service.store.turns(record.id)
        return reply(SessionAnswer(_info(record), [_turn(turn) for turn in turns]))

    @app.route("/api/v1/sessions/<session_id>", methods=["PATCH"])
    @Operation(
        summary="Change a session's title or tags", body=SessionPatch, answers=(SessionInfo,), refusals=(404,)
    )
    async def patch_session(session_id: str) -> Response:  # pyright: ignore[reportUnusedFunction]
        patch = decode(await body(), SessionPatch)
        record = await service.session(session_id, caller())
        await service.store.write(EditSession(record.id, patch.title, patch.tags))
        return reply(_info(await service.session(record.id, caller())))

    @app.route("/api/v1/sessions/<session_id>", methods=["DELETE"])
    @Operation(summary="End and forget a session", answers=(Deleted,), refusals=(404,))
    async def delete_session(session_id: str) -> Response:  # pyright: ignore[reportUnusedFunction]
        return reply(Deleted(await service.delete_session(session_id, caller())))

    @app.post("/api/v1/sessions/<session_id>/fork")
    @Operation(summary="A new session with the same history", answers=(SessionInfo,), refusals=(404,))
    async def fork_session(session_id: str) -> Response:  # pyright: ignore[reportUnusedFunction]
        return reply(_info(await service.fork_session(session_id, caller())))


def _filter() -> SessionFilter:
    known = {"backend", "status", "tag", "q", "limit", "offset", "api_key"}
    for name in request.args:
        if name not in known:
            raise Refusal(Code.INVALID_REQUEST, f"{name} is no filter of sessions", param=name)
    status = request.args.get("status")
    if status is not None and status not in get_args(SessionStatus):
        raise Refusal(
            Code.INVALID_REQUEST,
            f"status must be one of {', '.join(get_args(SessionStatus))}",
            param="status",
        )
    return SessionFilter(
        owner=caller(),
        backend=request.args.get("backend", ""),
        status=status or "",
        tag=request.args.get("tag", ""),
        q=request.args.get("q", ""),
        limit=whole_number(request.args.get("limit", "50"), "limit", 0, MOST),
        offset=whole_number(request.args.get("offset", "0"), "offset", 0, 2**31),
    )


def _info(record: SessionRecord) -> SessionInfo:
    return SessionInfo(
        id=record.id,
        backend=record.backend,
        model=record.model,
        workdir=record.workdir,
        title=record.title,
        tags=record.tags,
        metadata=record.metadata,
        status=record.status,
        parent=record.parent,
        created=record.created,
        updated=record.updated,
        turns=record.turns,
    )


def _turn(turn: TurnRecord) -> TurnInfo:
    return TurnInfo(
        number=turn.number,
        run_id=turn.run,
        prompt=turn.prompt,
        output=turn.output,
        error=turn.code,
        message=turn.message,
        token_usage=turn.usage,
        started=turn.started,
        ended=turn.ended,
    )
