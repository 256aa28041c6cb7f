"""The scripted agent with a memory: a prompt that holds a mark (`s3.7`) is answered with all marks of its conversation.

In a process of its own it forgets: a conversation that it does not hold is no conversation it can resume.
"""

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

import scripted_agent

MARK = re.compile(rb"s\d+\.\d+")


class Remembering(scripted_agent.Agent):
    """Holds what was said in each conversation."""

    def __init__(self) -> None:
        super().__init__()
        self.past: dict[str, dict[bytes, None]] = {}

    def take(self, message: dict[str, Any]) -> None:
        """Take a message."""
        params = message.get("params", {})
        unknown = message.get("method") == "session/resume" and params["sessionId"] not in self.past
        if unknown:
            error = {"code": -32002, "message": "no such session"}
            self.send(id=message["id"], error=error)
        else:
            super().take(message)

    def perform(self, session: str, request: Any, script: bytes) -> Iterator[float]:
        """Remember the marks, and tell them."""
        past = self.past.setdefault(session, {})
        marks = MARK.findall(script)
        if not marks:
            yield from super().perform(session, request, script)
            return
        past.update(dict.fromkeys(marks))
        yield 0.0
        self.say(session, b" ".join(past).decode())
        self.send(id=request, result={"stopReason": "end_turn"})


scripted_agent.Agent = Remembering
scripted_agent.main(sys.argv[1:])
