"""Reconciling what an agent streamed with what it says it said, so that the reader sees every text once.

After an upstream fault the CLIs repeat a block from its beginning, or deliver it whole without deltas. Text that
went out cannot be taken back: a repetition is swallowed while it agrees, completed where it goes on, and set off by
a blank line where it differs.
"""

from actors.messages import Message
from actors.outbox import Outbox

SEPARATOR = "\n\n"


class Answer:
    """The answer text of one turn: blocks of deltas, each perhaps restarted, each perhaps given whole at its end."""

    def __init__(self, out: Outbox) -> None:
        self._out = out
        self._block: list[str] = []
        self._separate = False
        self._repeated: str | None = None
        """What came so far of a repetition of this block; None outside one."""

    def begin_block(self) -> None:
        """A new block of text begins: it is set off from the one before."""
        self._separate = self._separate or bool(self._block)
        self._block = []
        self._repeated = None

    def delta(self, text: str) -> None:
        """A further piece of the block."""
        if self._repeated is None:
            self._say(text)
        else:
            self._repeated += text
            self._reconcile(self._repeated)

    def restart_block(self) -> None:
        """The agent is trying again: what follows may repeat the block from its beginning."""
        if self._block:
            self._repeated = ""

    def whole(self, text: str) -> None:
        """The block's full text as the agent gives it at the block's end."""
        self._reconcile(text)

    def _reconcile(self, text: str) -> None:
        """Say what `text` has beyond what was said of this block; if it is another text, say it as a block."""
        said = "".join(self._block)
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
        self._out.put(Message(text))
