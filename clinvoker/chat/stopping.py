"""Cutting an answer at a stop sequence: agents know none, so it is done here."""

from collections.abc import Sequence


class StopFilter:
    """Passes text on, piece by piece, up to the stop sequence that is complete first, as a model would stop.

    What may be the beginning of one waits.
    """

    def __init__(self, sequences: Sequence[str]) -> None:
        self._sequences = tuple(sequence for sequence in sequences if sequence)
        self._held = ""
        self.hit: str | None = None
        """The sequence that was found: nothing passes any more."""

    def feed(self, text: str) -> str:
        """Take a piece and return what can be passed on."""
        if self.hit is not None:
            return ""
        text = self._held + text
        found = [(at + len(each), at, each) for each in self._sequences if (at := text.find(each)) >= 0]
        if found:
            _, at, self.hit = min(found)
            self._held = ""
            return text[:at]
        self._held = text[len(text) - self._tail(text) :]
        return text[: len(text) - len(self._held)]

    def rest(self) -> str:
        """Return what still waits: the answer is over."""
        held, self._held = self._held, ""
        return held

    def _tail(self, text: str) -> int:
        """How many characters at the end may begin a sequence."""
        longest = max((len(each) for each in self._sequences), default=1) - 1
        for size in range(min(longest, len(text)), 0, -1):
            if any(each.startswith(text[-size:]) for each in self._sequences):
                return size
        return 0
