"""Prompts over REST: `POST /api/v1/prompt` (contract, section 3)."""

import hashlib
from base64 import b64encode
from functools import partial
from typing import Annotated, Any, Literal

import trio
from msgspec import UNSET, Meta, Struct, UnsetType
from msgspec.structs import replace
from quart import Response
from quart_trio import QuartTrio

from actors.errors import Code, Refusal
from actors.messages import (
    ApprovalMode,
    Complete,
    Entry,
    Failed,
    Image,
    Message,
    Options,
    Prompt,
    SandboxMode,
    Usage,
)
from clinvoker.api import frames
from clinvoker.api.exchange import answer_run, body, caller, client, framing, idempotency_key, reply
from clinvoker.api.operation import NDJSON, SSE, TURN, Entries, Operation, Parameter
from clinvoker.api.requests import check_text, decode
from clinvoker.backends.choice import Backend
from clinvoker.backends.probe import would_launch
from clinvoker.chat.structured import check_schema
from clinvoker.config.settings import Model, Tag
from clinvoker.errors import Body, body_of
from clinvoker.follower import Follower
from clinvoker.service import PromptCall, Service, Started

Positive = Annotated[int, Meta(ge=1, le=2**31 - 1)]
Word = Annotated[str, Meta(max_length=256)]

IDEMPOTENCY = Parameter("Idempotency-Key", "starts one run however often it is sent", Word, "header")


class ImageRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """A picture beside the prompt; in JSON, `data` is base64."""

    media_type: Literal["image/png", "image/jpeg", "image/gif", "image/webp"]
    data: Annotated[bytes, Meta(min_length=1)]


class PromptRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """`POST /prompt`: one turn. Unknown fields are refused, so that nothing asked for is silently dropped."""

    prompt: Annotated[str, Meta(min_length=1)]
    backend: Word = ""
    model: Model = ""
    workdir: Annotated[str, Meta(max_length=4096)] = ""
    session_id: Word = ""
    system_prompt: str = ""
    approval_mode: ApprovalMode = "default"
    sandbox_mode: SandboxMode = "default"
    output_format: Literal["default", "text", "json", "stream-json"] = "default"
    max_tokens: Positive | None = None
    max_turns: Positive | None = None
    images: tuple[ImageRequest, ...] = ()
    schema: dict[str, Any] | None = None
    extra: tuple[Word, ...] = ()
    ephemeral: bool = False
    queue: bool = False
    detach: bool = False
    tags: Annotated[tuple[Tag, ...], Meta(max_length=32)] = ()
    metadata: Annotated[dict[Word, Word], Meta(max_length=32)] = {}
    verbose: bool = False
    dry_run: bool = False
    stream: bool = False


class PromptAnswer(Struct, frozen=True):
    """The answer to a prompt that was not streamed. `events` is there with `verbose`: all but the text's pieces."""

    session_id: str
    backend: str
    model: str
    exit_code: int
    duration_ms: int
    output: str
    token_usage: Usage
    run_id: str
    stop_reason: str | UnsetType = UNSET
    denied: tuple[str, ...] | UnsetType = UNSET
    error: Body | UnsetType = UNSET
    events: Entries | UnsetType = UNSET


class Detached(Struct, frozen=True):
    """The answer to a detached prompt: the run goes on by itself."""

    run_id: str
    session_id: str


class DryRun(Struct, frozen=True):
    """What a prompt would start."""

    dry_run: Literal[True]
    backend: str
    model: str
    workdir: str
    command: tuple[str, ...]


def register(app: QuartTrio, service: Service) -> None:
    """Add the route."""

    @app.post("/api/v1/prompt")
    @Operation(
        summary="One turn",
        body=PromptRequest,
        answers=(PromptAnswer, Detached, DryRun),
        streams={SSE: Entry, NDJSON: Entry},
        parameters=(IDEMPOTENCY,),
        refusals=(404, *TURN),
    )
    async def prompt() -> Response:  # pyright: ignore[reportUnusedFunction] - quart keeps it
        raw = await body()
        asked = decode(raw, PromptRequest)
        call = replace(
            to_call(asked),
            caller=caller(),
            client=client(),
            idempotency_key=idempotency_key(),
            body_hash=hashlib.sha256(raw).digest(),
        )
        if asked.dry_run:
            return reply(would_start(*await service.plan(call)))
        started = await service.start(call)
        run_id, session_id = started.identity.run_id, started.identity.session_id
        if asked.detach:
            return reply(Detached(run_id, session_id))
        frame = framing(stream=asked.stream, ndjson=asked.output_format == "stream-json")
        return await answer_run(service, run_id, partial(_collect, started, verbose=asked.verbose), frame)


def to_call(asked: PromptRequest) -> PromptCall:
    """What a request asks for. Raises `Refusal` naming the field at fault."""
    check_text(asked.prompt, "prompt")
    check_text(asked.system_prompt, "system_prompt")
    if asked.schema is not None:
        check_schema(asked.schema, "schema")
    options = Options(
        workdir=asked.workdir,
        model=asked.model,
        system_prompt=asked.system_prompt,
        approval_mode=asked.approval_mode,
        sandbox_mode=asked.sandbox_mode,
        max_turns=asked.max_turns,
        max_tokens=asked.max_tokens,
        extra=asked.extra,
        ephemeral=asked.ephemeral,
    )
    if asked.session_id and options != Options():
        message = "a session's options are fixed when it begins: with session_id, send only the prompt"
        raise Refusal(Code.INVALID_REQUEST, message, param="session_id")
    if asked.session_id and (asked.tags or asked.metadata):
        message = (
            "a session's tags and metadata are given when it begins; PATCH /api/v1/sessions/{id} changes tags"
        )
        raise Refusal(Code.INVALID_REQUEST, message, param="tags" if asked.tags else "metadata")
    images = tuple(Image(image.media_type, b64encode(image.data).decode()) for image in asked.images)
    prompt = Prompt(asked.prompt, images, asked.schema)
    if asked.detach and asked.ephemeral:
        raise Refusal(
            Code.INVALID_REQUEST, "a detached run cannot be ephemeral: nobody could read it", param="detach"
        )
    return PromptCall(
        prompt,
        options,
        asked.backend,
        asked.session_id,
        queue=asked.queue,
        detach=asked.detach,
        tags=asked.tags,
        metadata=asked.metadata,
    )


def would_start(backend: Backend, options: Options) -> DryRun:
    """What a turn with these options would start."""
    launch = would_launch(backend.driver, options)
    return DryRun(True, backend.driver.name, options.model, options.workdir, launch.argv)  # noqa: FBT003


async def _collect(
    started: Started, follower: Follower, first: list[Entry], *, verbose: bool
) -> PromptAnswer:
    """The whole run as one answer."""
    told: list[Entry] = []
    texts: list[str] = []
    page = first
    while True:
        texts.append("".join(entry.content.text for entry in page if type(entry.content) is Message))
        if verbose:
            told.extend(entry for entry in frames.with_types(page) if type(entry.content) is not Message)
        last = page[-1].content
        if isinstance(last, Complete | Failed):
            break
        page = await anext(follower)
    identity = started.identity
    model = getattr(first[0].content, "model", started.options.model)
    events = told if verbose else UNSET
    if isinstance(last, Complete):
        return PromptAnswer(
            session_id=identity.session_id,
            backend=identity.backend,
            model=model,
            exit_code=last.exit_code,
            duration_ms=last.duration_ms,
            output=last.output,
            token_usage=last.token_usage,
            run_id=identity.run_id,
            stop_reason=last.stop_reason,
            denied=last.denied or UNSET,
            events=events,
        )
    return PromptAnswer(
        session_id=identity.session_id,
        backend=identity.backend,
        model=model,
        exit_code=1,
        duration_ms=round((trio.current_time() - started.began) * 1000),
        output="".join(texts),
        token_usage=Usage(),
        run_id=identity.run_id,
        error=body_of(last),
        events=events,
    )
