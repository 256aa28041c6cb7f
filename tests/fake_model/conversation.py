"""Conversation: what a request of any of the four APIs comes down to for the fake model."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class Conversation:
    """Only what the user said and what the tools brought since; the rest steers nothing."""

    system: str = ""
    user_texts: list[str] = field(default_factory=list)
    tool_results: list[str] = field(default_factory=list)
    """The results since the last user text: a request that carries some is the agent's loop, not a new turn."""
    tools: dict[str, dict[str, Any]] = field(default_factory=dict)
    """The tools that the agent offers in this request, and the JSON Schema of what each takes."""

    @property
    def text(self) -> str:
        """The last thing the user said."""
        return self.user_texts[-1] if self.user_texts else ""

    def hear(self, text: str) -> None:
        """Take a user text; what the CLIs inject on their own is not the user speaking."""
        text = _INJECTED_BLOCKS.sub("", text)  # where an agent merges what it is told
        if text.strip() and not text.lstrip().startswith(_INJECTED):
            self.user_texts.append(text)
            self.tool_results.clear()


_INJECTED_BLOCKS = re.compile(r"\A(\s*<([a-z_-]+)>.*?</\2>\s*)+", re.DOTALL)

_INJECTED = (
    "<system-reminder>",  # claude
    "[Request interrupted by user",  # claude, after an interrupt
    "<environment_context>",  # codex
    "<user_instructions>",
    "<permissions instructions>",
    "<turn_aborted>",
    "<skills_instructions>",
    "# AGENTS.md instructions",
    "<session_context>",  # gemini
    "This is the Gemini CLI",
)


def texts(content: Any, *kinds: str) -> Iterator[str]:
    """Give the texts of a message content, which every API allows to be a string or a list of typed parts."""
    if isinstance(content, str):
        yield content
    elif isinstance(content, list):
        for part in content:
            if isinstance(part, dict) and part.get("type") in kinds and isinstance(part.get("text"), str):
                yield part["text"]
