"""Writing events: batches of log entries as SSE or NDJSON, one write a batch."""

from collections.abc import Callable, Iterable

import msgspec
from msgspec import UNSET, Struct
from msgspec.structs import replace

from actors.messages import Entry, Failed
from clinvoker.errors import typed
from clinvoker.http.stream import NDJSON_HEARTBEAT, SSE_HEARTBEAT

Frame = Callable[[list[Entry]], bytes]
"""Turns a batch of entries into the bytes of one write."""


class Framing(Struct, frozen=True):
    """A way to stream events, and what is sent when nothing happens."""

    frame: Frame
    content_type: str
    heartbeat: bytes


_encoder = msgspec.json.Encoder()
_BREAKS = tuple((mark.encode(), b"\\u%04x" % ord(mark)) for mark in "\x85\u2028\u2029")


def sse(entries: list[Entry]) -> bytes:
    """Frames of Server-Sent Events (WHATWG HTML, 9.2), numbered so that a reader can go on after any of them."""
    # JSON text holds no raw CR or LF, so an event is one `data` line.
    return unbroken(
        b"".join(
            b"id: %d\ndata: %b\n\n" % (entry.seq, _encoder.encode(entry)) for entry in with_types(entries)
        )
    )


def ndjson(entries: list[Entry]) -> bytes:
    """One event a line."""
    return unbroken(_encoder.encode_lines(list(with_types(entries))))


def unbroken(frames: bytes) -> bytes:
    """JSON in frames, escaped where a character ends a line to some readers, though not by SSE or NDJSON.

    httpx's `iter_lines()` is one: it splits as Python's `str.splitlines` does. Such a character stands in strings alone.
    """
    for character, escaped in _BREAKS:
        frames = frames.replace(character, escaped)
    return frames


def with_types(entries: list[Entry]) -> Iterable[Entry]:
    """The entries, errors with their type filled in."""
    # A run of several turns may tell of errors anywhere, any other at its end.
    if any(type(entry.content) is Failed for entry in (entries if _has_tasks(entries) else entries[-1:])):
        return map(_with_type, entries)
    return entries


def _has_tasks(entries: list[Entry]) -> bool:
    return entries[0].task is not UNSET or entries[-1].task is not UNSET


def _with_type(entry: Entry) -> Entry:
    return replace(entry, content=typed(entry.content)) if isinstance(entry.content, Failed) else entry


SSE = Framing(sse, "text/event-stream", SSE_HEARTBEAT)
NDJSON = Framing(ndjson, "application/x-ndjson", NDJSON_HEARTBEAT)
