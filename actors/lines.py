"""Bytes into lines, without I/O: what an agent prints becomes whole lines in bounded memory."""

LINE_LIMIT = 16 * 1024 * 1024
"""The longest line kept, in bytes: agents echo whole files in one line, 800 KB has been seen."""


class LineSplitter:
    r"""Splits a stream of bytes at b"\n", and nowhere else.

    Agents print raw U+2028 and U+0085 inside JSON strings, so `splitlines` would break lines apart. A line of more than
    `limit` bytes is dropped and counted in `oversize`; the lines around it are kept. At most `limit` bytes plus one feed
    are held. The lines are the same however the stream is cut into feeds.
    """

    def __init__(self, limit: int = LINE_LIMIT) -> None:
        self._limit = limit
        # One growing buffer, not a list of chunks: freed as a whole, it goes back to the system.
        self._partial = bytearray()
        self._dropping = False
        self.oversize = 0

    def feed(self, data: bytes) -> list[bytes]:
        """Return the lines that `data` completes, without their ends."""
        first, newline, rest = data.partition(b"\n")
        if not newline:
            self._keep(first)
            return []
        if self._partial or self._dropping:
            self._keep(first)
            lines = rest.split(b"\n")
            if not self._dropping:
                lines.insert(0, bytes(self._partial))
            self._partial = bytearray()
            self._dropping = False
        else:
            lines = data.split(b"\n")
        tail = lines.pop()
        if len(data) > self._limit:
            lines = self._without_oversize(lines)
        self._keep(tail)
        return lines

    def finish(self) -> list[bytes]:
        """Return the last line if the stream ended without a newline; the splitter is then as new."""
        lines = [bytes(self._partial)] if self._partial else []
        self._partial = bytearray()
        self._dropping = False
        return lines

    def _keep(self, part: bytes) -> None:
        if self._dropping:
            return
        if len(self._partial) + len(part) > self._limit:
            self._partial = bytearray()
            self._dropping = True
            self.oversize += 1
        else:
            self._partial += part

    def _without_oversize(self, lines: list[bytes]) -> list[bytes]:
        kept = [line for line in lines if len(line) <= self._limit]
        self.oversize += len(lines) - len(kept)
        return kept


def utf8(line: bytes) -> bytes:
    """Return a line that is UTF-8 for certain, with what is none replaced: decoders have no mercy."""
    if line.isascii():
        return line
    return line.decode(errors="replace").encode()


class Tail:
    """Keeps the last `size` bytes of a stream."""

    def __init__(self, size: int = 64 * 1024) -> None:
        self._size = size
        self._kept = b""

    def feed(self, data: bytes) -> None:
        """Append `data`, forgetting what is too old."""
        self._kept = (self._kept + data)[-self._size :] if len(data) < self._size else data[-self._size :]

    def __bytes__(self) -> bytes:
        return self._kept
