"""Steps: what a streaming answer does on the wire, so that the formats stay pure and the server keeps the time."""

from __future__ import annotations

import enum
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from tests.fake_model.reply import FAULT_AFTER, Reply


@dataclass(frozen=True, slots=True)
class Pause:
    """Send what there is, then wait."""

    seconds: float


class Ending(enum.Enum):
    """An end that is not the end of the format's own events."""

    CUT = "drop the TCP connection"
    HANG = "send nothing more and keep the connection"
    STOP = "end the body here"


Step = bytes | Pause | Ending


def speak(
    words: tuple[str, ...], reply: Reply, encode: Callable[[str], bytes], fault: bytes = b""
) -> Iterator[Step]:
    """Say `words` at the reply's pace; `fault` is the format's in-stream error, given where faults may happen."""
    mid = reply.mid if fault else None
    for index, word in enumerate(words):
        if mid and index == FAULT_AFTER:
            break
        if index and reply.slow:
            yield Pause(reply.slow)
        yield encode(word)
    if mid == "cut":
        yield Pause(0.02)  # words and the cut in one packet: some clients would then never show the words
        yield Ending.CUT
    elif mid == "hang":
        yield Ending.HANG
    elif mid == "error":
        yield fault
        yield Ending.STOP


def dump(value: Any) -> bytes:
    """Encode as raw UTF-8, the harder case for line readers; half a surrogate pair only exists escaped."""
    try:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
    except UnicodeEncodeError:
        return json.dumps(value, separators=(",", ":")).encode()


def sse(value: Any, event: str = "", encode: Callable[[Any], bytes] = dump) -> bytes:
    """Encode one server-sent event."""
    head = f"event: {event}\n".encode() if event else b""
    return head + b"data: " + encode(value) + b"\n\n"
