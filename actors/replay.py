"""Telling an agent a conversation that it does not remember: the history, once, clearly set off from the prompt."""

from collections.abc import Sequence
from xml.sax.saxutils import escape


def with_history(turns: Sequence[tuple[str, str]], prompt: str) -> str:
    """Return the prompt with the conversation's turns (prompt, answer) before it.

    They are escaped, so that nothing that was said can end the history and pass for the new prompt.
    """
    if not turns:
        return prompt
    said = "\n".join(
        f"<user>{escape(asked)}</user>\n<assistant>{escape(answered)}</assistant>"
        for asked, answered in turns
    )
    return (
        "What follows is the conversation so far. Take it as said, and answer only the message after it.\n"
        f"<conversation>\n{said}\n</conversation>\n\n{prompt}"
    )
