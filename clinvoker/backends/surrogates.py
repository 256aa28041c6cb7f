r"""Halves of characters: what a JavaScript agent prints when it cuts a text inside a surrogate pair.

`JSON.stringify` writes such a half as `\ud83d`; a strict decoder refuses the line, and Python text that holds one cannot
be encoded. Here a half travels as a private character of its own until its other half comes.
"""

import json
import re

# Plane 16 is private use: no agent's own text is there. U+D800 to U+DFFF become U+10D800 to U+10DFFF.
_OFFSET = 0x100000
_FIRST, _LAST = chr(_OFFSET + 0xD800), chr(_OFFSET + 0xDFFF)
_HALF = re.compile("[\ud800-\udfff]")
_PAIR = re.compile(f"[{_FIRST}-{chr(_OFFSET + 0xDBFF)}][{chr(_OFFSET + 0xDC00)}-{_LAST}]")
_LEFT = re.compile(f"[{_FIRST}-{_LAST}]")
_REPLACEMENT = "\ufffd"


def mend(line: bytes) -> bytes:
    """Return a line of JSON with every half made private. Raises `ValueError`, `RecursionError` when it is no JSON."""
    text = json.dumps(json.loads(line), ensure_ascii=False)
    return _HALF.sub(lambda half: chr(_OFFSET + ord(half[0])), text).encode()


class Joiner:
    """Joins halves across the pieces of one text."""

    def __init__(self) -> None:
        self._half = ""

    def feed(self, piece: str) -> str:
        """Return the piece with its pairs joined; a first half at its end is kept back for the next piece."""
        if not self._half and (piece.isascii() or not _LEFT.search(piece)):
            return piece
        whole = _PAIR.sub(lambda pair: _join(*pair[0]), self._half + piece)
        self._half = whole[-1:] if _LEFT.match(whole[-1:]) else ""
        return _LEFT.sub(_REPLACEMENT, whole.removesuffix(self._half) if self._half else whole)

    def finish(self) -> str:
        """Return what is left of a text that ended within a character."""
        left, self._half = self._half, ""
        return _REPLACEMENT if left else ""


def _join(high: str, low: str) -> str:
    return chr(0x10000 + ((ord(high) - _OFFSET - 0xD800) << 10) + (ord(low) - _OFFSET - 0xDC00))
