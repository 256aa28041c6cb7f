"""A value that must be usable and must never be seen."""

import hmac
from typing import Final


class Secret:
    """Holds a key. `repr`, `str` and formatting show a placeholder; only `reveal()` gives the text.

    msgspec refuses to encode it and it has no `__dict__`, so neither JSON nor a dump of attributes can leak it.
    """

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text: Final = text

    def reveal(self) -> str:
        """Return the text itself: for comparing or handing on, never for a message."""
        return self._text

    def __repr__(self) -> str:
        return "Secret(…)"

    def __eq__(self, other: object) -> bool:
        """Compare in constant time."""
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(self._text.encode(), other._text.encode())

    def __hash__(self) -> int:
        return hash(self._text)

    def __reduce__(self) -> str:
        """Refuse pickling: a secret does not leave the process."""
        raise TypeError("a Secret cannot be pickled")
