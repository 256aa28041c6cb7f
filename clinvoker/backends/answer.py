"""Reconciling what an agent streamed with what it says it said, so that the reader sees every text once.

After an upstream fault the CLIs repeat a block from its beginning, or deliver it whole without deltas. Text that
went out cannot be taken back: a repetition is swallowed while it agrees, completed where it goes on, and set off by
a blank line where it differs.
"""

from collections.abc import Callable, Sequence

from actors.messages import Message, Thinking
from actors.outbox import Outbox
from clinvoker.backends.surrogates import Joiner

SEPARATOR = "\n\n"


class Answer:
    """The answer text of one turn: blocks of deltas, each perhaps restarted, each perhaps given whole at its end.

    The same holds for visible reasoning: `event` is what to make of a piece of text.
    """

    def __init__(self, out: Outbox, event: Callable[[str], Message | Thinking] = Message) -> None:
        self._out = out
        self._event = event
        self._block: list[str] = []
        self._separate = False
        self._said = ""
        """The block so far, joined; kept up to date only while a repetition is compared with it."""
        self._repeated: str | None = None
        """What came so far of a repetition of this block; None outside one."""
        self._joiner = Joiner()

    def begin_block(self, *, separate: bool = True) -> None:
        """A new block of text begins: it is set off from the one before, unless it goes on in mid-sentence."""
        self._separate = self._separate or (separate and bool(self._block))
        self._block = []
        self._repeated = None
        self._joiner = Joiner()

    def delta(self, text: str) -> None:
        """A further piece of the block."""
        text = self._joiner.feed(text)
        if self._repeated is None:
            self._say(text)
        else:
            self._repeated += text
            self._reconcile(self._repeated, self._said)

    def restart_block(self) -> None:
        """The agent is trying again: what follows may repeat the block from its beginning."""
        self._joiner = Joiner()
        if self._block:
            self._said = "".join(self._block)
            self._repeated = ""

    def whole(self, text: str) -> None:
        """The block's full text as the agent gives it at the block's end."""
        self._joiner = Joiner()
        text = Joiner().feed(text)
        said = "".join(self._block)
        if self._repeated is None and not text.startswith(said):
            # No other text was announced: pieces of this one were lost on the way.
            said = _told(text, self._block) or said
        self._reconcile(text, said)

    def _reconcile(self, text: str, said: str) -> None:
        """Say what `text` has beyond what was said of this block; if it is another text, say it as a block."""
        if text.startswith(said):
            self._repeated = None
            self._say(text[len(said) :])
        elif not said.startswith(text):
            self.begin_block()
            self._say(text)

    def _say(self, text: str) -> None:
        if not text:
            return
        self._block.append(text)
        if self._separate:
            self._separate = False
            text = SEPARATOR + text
        self._out.put(self._event(text))


def _told(text: str, pieces: Sequence[str]) -> str:
    """Return the text up to the last of these pieces of it, some of which are missing; empty if one is no piece of it."""
    place = 0
    for piece in pieces:
        found = text.find(piece, place)
        if found < 0:
            return ""
        place = found + len(piece)
    # Where it may stand in several places the last one is meant: rather too little again than anything twice.
    return text[: text.rfind(pieces[-1]) + len(pieces[-1])] if pieces else ""
