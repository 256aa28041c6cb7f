"""An HTTP answer as it arrived: its bytes are taken down with the time, and looked at only when all is over.

So the reader costs next to nothing while the measurement runs, and every write of the daemon can be told.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import msgspec


class Timed(NamedTuple):
    """An event of a stream, and when its last byte was there (`time.perf_counter`)."""

    at: float
    event: dict[str, Any]


@dataclass(slots=True)
class Recording:
    """One answer. `began` is the moment before the connection was opened."""

    began: float
    pieces: list[tuple[float, bytes]] = field(default_factory=list)

    @property
    def size(self) -> int:
        """Bytes on the wire."""
        return sum(len(data) for _, data in self.pieces)

    @property
    def seconds(self) -> float:
        """From before the connection to the last byte."""
        return self.pieces[-1][0] - self.began

    def chunks(self) -> list[tuple[float, bytes]]:
        """The chunks of the body: the daemon makes one of each write."""
        raw = b"".join(data for _, data in self.pieces)
        head, separator, _ = raw.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 "), raw[:2000]
        assert b"transfer-encoding: chunked" in head.lower(), head
        ends = _ends(self.pieces)
        position = len(head) + len(separator)
        found: list[tuple[float, bytes]] = []
        while True:
            line_end = raw.index(b"\r\n", position)
            start, length = line_end + 2, int(raw[position:line_end], 16)
            if not length:
                return found
            position = start + length + 2
            found.append((self._when(ends, start + length), raw[start : start + length]))

    def events(self) -> list[Timed]:
        """The events of a stream, in order; a comment is none."""
        chunks = self.chunks()
        ends = _ends(chunks)
        events: list[Timed] = []
        position = 0
        for frame in b"".join(data for _, data in chunks).split(b"\n\n")[:-1]:
            position += len(frame) + 2
            data = frame.partition(b"\ndata: ")[2]
            if data:
                events.append(Timed(chunks[bisect_left(ends, position)][0], msgspec.json.decode(data)))
        return events

    def _when(self, ends: list[int], position: int) -> float:
        """When the bytes up to `position` were there."""
        return self.pieces[bisect_left(ends, position)][0]


def _ends(pieces: list[tuple[float, bytes]]) -> list[int]:
    total = 0
    return [total := total + len(data) for _, data in pieces]


def first_text(events: list[Timed]) -> float:
    """When the first piece of the answer was there."""
    return next(at for at, event in events if event["type"] == "message")


def check(events: list[Timed], expected: str) -> None:
    """Every event once and in order, and the exact text both in pieces and as a whole."""
    assert [event["seq"] for _, event in events] == list(range(1, len(events) + 1)), events[:3]
    last = events[-1].event
    assert last["type"] == "complete", last
    assert text(events) == expected, text(events)[:200]
    assert last["content"]["output"] == expected, last["content"]["output"][:200]


def text(events: list[Timed]) -> str:
    """The pieces of the answer, joined."""
    return "".join(event["content"]["text"] for _, event in events if event["type"] == "message")
