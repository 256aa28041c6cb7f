"""The frames of `/api/v1/ws`, one JSON object each in a text frame (contract, section 6).

A client's are told apart by `op`:

    {"op": "prompt", "ref": "a", "prompt": "…", …}           the fields of `POST /prompt`; `ref` is the client's own word
    {"op": "parallel" | "chain" | "compare", "ref": "a", …}   likewise
    {"op": "attach", "ref": "b", "run_id": "run_…", "after": 4}
    {"op": "cancel", "run_id": "run_…"}                      or, of a run that has told nothing yet, {"op", "ref"}
    {"op": "permission", "run_id": "run_…", "id": "p_1", "option": "allow"}

The server's are the events of runs as on every native stream, with the `ref`, and besides:

    {"type": "detached", "ref", "run_id", "session_id"}      at once after a prompt with `detach`; its events follow
    {"type": "ended", "ref", "run_id"}                       the attached run has ended, with nothing after `after`
    {"type": "cancelled", "ref"?, "run_id", "cancelled"}     whether it was still going
    {"type": "answered", "ref"?, "run_id", "id", "option"}
    {"type": "error", "ref"?, "content", "timestamp"}        no `run_id`: a frame was refused, nothing came of it
"""

from typing import Annotated, cast

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType
from msgspec.structs import replace

from actors.errors import Code, Refusal
from actors.messages import Failed
from clinvoker.api.fanout_requests import ChainRequest, CompareRequest, ParallelRequest, to_fanout
from clinvoker.api.native import PromptRequest, to_call
from clinvoker.api.requests import decode
from clinvoker.fanout import FanoutCall
from clinvoker.service import PromptCall

Word = Annotated[str, Meta(max_length=256)]
Seq = Annotated[int, Meta(ge=0, le=2**53)]
Ref = Word | UnsetType


class PromptFrame(
    PromptRequest, frozen=True, forbid_unknown_fields=True, kw_only=True, tag_field="op", tag="prompt"
):
    """Start a run, and follow it."""

    ref: Word


class ParallelFrame(
    ParallelRequest, frozen=True, forbid_unknown_fields=True, kw_only=True, tag_field="op", tag="parallel"
):
    """Start a run of many turns at once, and follow it."""

    ref: Word


class ChainFrame(
    ChainRequest, frozen=True, forbid_unknown_fields=True, kw_only=True, tag_field="op", tag="chain"
):
    """Start a run of turns in order, and follow it."""

    ref: Word


class CompareFrame(
    CompareRequest, frozen=True, forbid_unknown_fields=True, kw_only=True, tag_field="op", tag="compare"
):
    """Start a run of one turn on several backends, and follow it."""

    ref: Word


class AttachFrame(Struct, frozen=True, forbid_unknown_fields=True, tag_field="op", tag="attach"):
    """Follow a run from event number `after` on."""

    ref: Word
    run_id: Word
    after: Seq = 0


class CancelFrame(Struct, frozen=True, forbid_unknown_fields=True, tag_field="op", tag="cancel"):
    """Stop a run; without `run_id` the one that was opened here under `ref`, the latest if there are more."""

    run_id: Word = ""
    ref: Ref = UNSET


class PermissionFrame(Struct, frozen=True, forbid_unknown_fields=True, tag_field="op", tag="permission"):
    """Answer a permission."""

    run_id: Word
    id: Word
    option: Word
    ref: Ref = UNSET


StartFrame = PromptFrame | ParallelFrame | ChainFrame | CompareFrame
"""Those that start a run."""

Frame = StartFrame | AttachFrame | CancelFrame | PermissionFrame


class Detached(Struct, frozen=True, tag_field="type", tag="detached"):
    """A detached run is on its way, with or without a reader."""

    ref: str
    run_id: str
    session_id: str


class Ended(Struct, frozen=True, tag_field="type", tag="ended"):
    """There was nothing more to tell of an attached run."""

    ref: str
    run_id: str


class Cancelled(Struct, frozen=True, tag_field="type", tag="cancelled"):
    """The answer to `cancel`."""

    ref: Ref
    run_id: str
    cancelled: bool


class Answered(Struct, frozen=True, tag_field="type", tag="answered"):
    """The answer to `permission`."""

    ref: Ref
    run_id: str
    id: str
    option: str


class ErrorEvent(Struct, frozen=True, tag_field="type", tag="error"):
    """A frame was refused, or nothing could be begun for it."""

    ref: Ref
    content: Failed
    timestamp: str


class _Marked(Struct, frozen=True):
    ref: Ref = UNSET


def read(data: str | bytes) -> Frame:
    """Return a client's frame. Raises `Refusal` naming the field at fault."""
    if isinstance(data, bytes):
        raise Refusal(Code.INVALID_REQUEST, "frames are JSON objects in text, not binary")
    return decode(data.encode(), cast("type[Frame]", Frame))


def ref_of(data: str | bytes) -> Ref:
    """The `ref` of a frame that was refused, if it can be had."""
    try:
        return msgspec.json.decode(data, type=_Marked).ref
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return UNSET


def call_of(frame: StartFrame, caller: str) -> PromptCall | FanoutCall:
    """What a frame asks to start. Raises `Refusal` naming the field at fault."""
    # A websocket streams, events in JSON: asking for that is no contradiction, asking for anything else is.
    if frame.dry_run:
        raise Refusal(Code.UNSUPPORTED, "dry_run is for POST: here what is asked for is run", param="dry_run")
    if frame.output_format not in {"default", "stream-json"}:
        message = "output_format is for POST: here all answers are streams of JSON"
        raise Refusal(Code.UNSUPPORTED, message, param="output_format")
    if isinstance(frame, PromptFrame):
        return replace(to_call(frame), caller=caller)
    return to_fanout(frame, caller)
