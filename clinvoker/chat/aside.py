"""Requests that clients send on the side of a conversation: titles, tags, follow-up questions, probes.

They are nobody's conversation: they run by themselves, in a directory of their own, with as little leave as the agent
offers. A client says so by `x-clinvoker-side: true`; the usual ones are known by the words that they all send.
"""

from msgspec.structs import replace

from actors.driver import Capabilities
from clinvoker.chat.asked import Asked, Wishes
from clinvoker.chat.sources import Source
from clinvoker.chat.tools import Offered

OPENINGS = (
    # Open WebUI, backend/open_webui/config.py (TITLE_, TAGS_, FOLLOW_UP_, QUERY_GENERATION_PROMPT_TEMPLATE).
    (
        "### Task:",
        (
            "Generate a concise, 3-5 word title",
            "Generate 1-3 broad tags",
            "Suggest 3-5 relevant follow-up questions",
            "determine the necessity of generating search queries",
        ),
    ),
    # LibreChat, @librechat/agents (createCompletionTitleRunnable).
    ("Provide a concise, 5-word-or-less title for the conversation", ("",)),
)
"""How a newest message begins that is one, and words of which it must have some."""

SYSTEMS = (
    # opencode, packages/opencode/src/agent/prompt/title.txt
    "You are a title generator. You output ONLY a ",
)
"""How the instructions begin of an agent that is asked for nothing else."""

PROBE = "quota"
"""What Claude Code asks with `max_tokens` 1, to learn how its user stands."""


def is_aside(asked: Asked) -> bool:
    """Whether a turn is one."""
    newest = asked.chat.newest.text
    return (
        asked.wishes.side == "true"
        or (asked.max_tokens == 1 and newest.strip() == PROBE)
        or asked.chat.system.startswith(SYSTEMS)
        or any(
            newest.startswith(start) and any(word in newest for word in words) for start, words in OPENINGS
        )
    )


def put_aside(asked: Asked, can: Capabilities) -> Asked:
    """The same turn, by itself, with as little leave as the agent offers."""
    wishes = Wishes(
        approval_mode="none" if "none" in can.approval_modes else "default",
        sandbox_mode="read-only" if "read-only" in can.sandbox_modes else "default",
    )
    return replace(asked, wishes=wishes, source=Source(), offered=Offered(), follows="", aside=True)
