"""How an event is stored: a JSON array a line, without what its run and its place among the lines say already.

A third of the size of what a reader gets; keeping a long answer costs mostly by the byte.
"""

from collections.abc import Sequence

import msgspec
from msgspec import UNSET, Raw, Struct

from actors.messages import (
    Complete,
    Entry,
    Event,
    Failed,
    Message,
    Permission,
    Start,
    Thinking,
    ToolResult,
    ToolUse,
)

_CONTENTS: dict[str, type[Event]] = {
    kind.TYPE: kind for kind in (Start, Message, Thinking, ToolUse, ToolResult, Permission, Failed, Complete)
}


class Line(Struct, array_like=True, frozen=True, gc=False):
    """An event as it is stored; `backend` and `session_id` are empty where they are the run's own."""

    type: str
    content: Event | Raw
    timestamp: str
    backend: str = ""
    session_id: str = ""
    task: int | None = None


class _Read(Struct, array_like=True, frozen=True):
    type: str
    content: Raw
    timestamp: str
    backend: str = ""
    session_id: str = ""
    task: int | None = None


_encode_lines = msgspec.json.Encoder().encode_lines
_decode = msgspec.json.Decoder(_Read).decode


def encode_entries(entries: Sequence[Entry], backend: str = "", session_id: str = "") -> bytes:
    """Return the entries of one run as lines, each with its newline; backend and session are the run's own."""
    return _encode_lines(
        [
            Line(
                entry.type,
                entry.content,
                entry.timestamp,
                "" if entry.backend == backend else entry.backend,
                "" if entry.session_id == session_id else entry.session_id,
                None if entry.task is UNSET else entry.task,
            )
            for entry in entries
        ]
    )


def decode_entries(
    lines: Sequence[bytes], after: int, run_id: str, backend: str, session_id: str
) -> list[Entry]:
    """Return the entries that were stored as these lines, the first of them number `after + 1` of their run."""
    return [
        _decode_entry(line, run_id, seq, backend, session_id) for seq, line in enumerate(lines, after + 1)
    ]


def _decode_entry(line: bytes, run_id: str, seq: int, backend: str, session_id: str) -> Entry:
    read = _decode(line)
    content = msgspec.json.decode(read.content, type=_CONTENTS[read.type])
    return Entry(
        read.type,
        read.backend or backend,
        content,
        read.timestamp,
        run_id,
        seq,
        read.session_id or session_id,
        UNSET if read.task is None else read.task,
    )
