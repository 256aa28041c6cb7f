"""What fan-outs are asked by: the bodies of `POST /parallel`, `/chain` and `/compare`, and what they ask for."""

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct
from msgspec.structs import replace

from actors.errors import Code, Refusal, within
from actors.messages import ApprovalMode, SandboxMode
from clinvoker.api.native import ImageRequest, PromptRequest, Word, to_call
from clinvoker.api.requests import check_text
from clinvoker.config.settings import Model, Tag
from clinvoker.fanout import ChainCall, CompareCall, FanoutCall, Isolation, Judge, ParallelCall, Step
from clinvoker.service import PromptCall

AtOnce = Annotated[int, Meta(ge=1, le=2**31 - 1)]
Name = Annotated[str, Meta(pattern=r"\A[A-Za-z0-9_-]{0,64}\Z")]
Command = Annotated[str, Meta(max_length=65_536)]

NOT_OF_A_PART = ("stream", "detach", "dry_run", "verbose")
"""Fields of a prompt that are for the request as a whole, or for a prompt alone."""


class _Request(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What all fan-outs can be asked."""

    output_format: Literal["default", "json", "stream-json"] = "default"
    detach: bool = False
    dry_run: bool = False
    stream: bool = False


class _Isolated(_Request, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How tasks are kept apart."""

    isolate: Literal["none", "worktree"] = "none"
    keep: bool = False
    check: Command = ""


class ParallelRequest(_Isolated, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`POST /parallel`: many turns at once."""

    tasks: tuple[PromptRequest, ...]
    max_parallel: AtOnce | None = None
    fail_fast: bool | None = None


class StepRequest(PromptRequest, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A step of a chain: a prompt, and a name for it."""

    name: Name = ""


class ChainRequest(_Request, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`POST /chain`: turns in order."""

    steps: tuple[StepRequest, ...]
    input: str = ""
    stop_on_failure: bool = True
    pass_working_dir: bool = False
    persist_sessions: bool = False
    continue_session: bool = False


class JudgeRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """Who ranks the answers of a comparison."""

    backend: Word = ""
    model: Model = ""
    criteria: str = ""


class CompareRequest(_Isolated, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`POST /compare`: one turn on several backends."""

    prompt: Annotated[str, Meta(min_length=1)]
    backends: tuple[Word, ...] = ()
    model: Model = ""
    workdir: Annotated[str, Meta(max_length=4096)] = ""
    system_prompt: str = ""
    approval_mode: ApprovalMode = "default"
    sandbox_mode: SandboxMode = "default"
    images: tuple[ImageRequest, ...] = ()
    schema: dict[str, Any] | None = None
    ephemeral: bool = False
    tags: Annotated[tuple[Tag, ...], Meta(max_length=32)] = ()
    metadata: Annotated[dict[Word, Word], Meta(max_length=32)] = {}
    sequential: bool = False
    judge: JudgeRequest | None = None


FanoutRequest = ParallelRequest | ChainRequest | CompareRequest


def to_fanout(asked: FanoutRequest, caller: str) -> FanoutCall:
    """What a request asks for. Raises `Refusal` naming the place at fault (`tasks[3].workdir`)."""
    match asked:
        case ParallelRequest():
            return ParallelCall(
                tasks=tuple(
                    _part(task, f"tasks[{number}]", caller) for number, task in enumerate(asked.tasks)
                ),
                max_parallel=asked.max_parallel,
                fail_fast=asked.fail_fast,
                isolation=_isolation(asked),
                caller=caller,
                detach=asked.detach,
            )
        case ChainRequest():
            check_text(asked.input, "input")
            return ChainCall(
                steps=tuple(
                    Step(_part(step, f"steps[{number}]", caller), step.name)
                    for number, step in enumerate(asked.steps)
                ),
                input=asked.input,
                stop_on_failure=asked.stop_on_failure,
                pass_working_dir=asked.pass_working_dir,
                persist_sessions=asked.persist_sessions,
                continue_session=asked.continue_session,
                caller=caller,
                detach=asked.detach,
            )
        case CompareRequest():
            return CompareCall(
                call=_compared(asked, caller),
                backends=asked.backends,
                sequential=asked.sequential,
                isolation=_isolation(asked),
                judge=_judge(asked.judge),
                caller=caller,
                detach=asked.detach,
            )


def _part(asked: PromptRequest, place: str, caller: str) -> PromptCall:
    """A task, or a step."""
    with within(place):
        for field in NOT_OF_A_PART:
            if getattr(asked, field):
                message = f"{field} is not for a part of a request"
                raise Refusal(Code.INVALID_REQUEST, message, param=field)
        if asked.output_format == "stream-json":
            message = "output_format of a part cannot be a stream"
            raise Refusal(Code.INVALID_REQUEST, message, param="output_format")
        return replace(to_call(asked), caller=caller)


def _compared(asked: CompareRequest, caller: str) -> PromptCall:
    prompt = PromptRequest(
        prompt=asked.prompt,
        model=asked.model,
        workdir=asked.workdir,
        system_prompt=asked.system_prompt,
        approval_mode=asked.approval_mode,
        sandbox_mode=asked.sandbox_mode,
        images=asked.images,
        schema=asked.schema,
        ephemeral=asked.ephemeral,
        tags=asked.tags,
        metadata=asked.metadata,
    )
    if asked.detach and asked.ephemeral:
        message = "a detached run cannot be ephemeral: nobody could read it"
        raise Refusal(Code.INVALID_REQUEST, message, param="detach")
    return replace(to_call(prompt), caller=caller)


def _judge(asked: JudgeRequest | None) -> Judge | None:
    if asked is None:
        return None
    check_text(asked.criteria, "judge.criteria")
    return Judge(asked.backend, asked.model, asked.criteria)


def _isolation(asked: ParallelRequest | CompareRequest) -> Isolation | None:
    if asked.isolate == "worktree":
        check_text(asked.check, "check")
        return Isolation(keep=asked.keep, check=asked.check)
    for field in ("keep", "check"):
        if getattr(asked, field):
            message = f'{field} is of worktrees: it needs "isolate": "worktree"'
            raise Refusal(Code.INVALID_REQUEST, message, param=field)
    return None
