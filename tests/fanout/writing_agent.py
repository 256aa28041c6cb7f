"""The scripted agent with hands: `{{write:NAME=TEXT}}`, `{{run:COMMAND}}` and `{{where}}` in its working directory.

`{{marks}}` says all `mark-N` that it was told in the conversation.
"""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

import scripted_agent
from scripted_agent import directive

WHERE: dict[str, str] = {}
MARKS: dict[str, list[str]] = {}


class Writing(scripted_agent.Agent):
    """Knows where each conversation works."""

    def take(self, message: dict[str, Any]) -> None:
        """Take a message."""
        super().take(message)
        params = message.get("params", {})
        if message.get("method") == "session/new":
            WHERE[f"s-{os.getpid()}-{self.sessions}"] = params["cwd"]
        elif "cwd" in params:  # resumed, elsewhere perhaps
            WHERE[params["sessionId"]] = params["cwd"]

    def perform(self, session: str, request: Any, script: bytes) -> Iterator[float]:
        """Remember the marks."""
        MARKS.setdefault(session, []).extend(re.findall(r"mark-\d+", script.decode()))
        yield from super().perform(session, request, script)


@directive
def write(agent: scripted_agent.Agent, session: str, argument: str) -> None:
    """Write a file."""
    name, _, text = argument.partition("=")
    Path(WHERE[session], name).write_text(text + "\n")


@directive
def run(agent: scripted_agent.Agent, session: str, argument: str) -> None:
    """Run a command, and say what it said."""
    shell = ["/bin/sh", "-c", argument]
    done = subprocess.run(shell, cwd=WHERE[session], capture_output=True, text=True, check=False)
    agent.say(session, done.stdout + done.stderr)


@directive
def where(agent: scripted_agent.Agent, session: str, argument: str) -> None:
    """Say the working directory."""
    agent.say(session, WHERE[session])


@directive
def marks(agent: scripted_agent.Agent, session: str, argument: str) -> None:
    """Say all marks."""
    agent.say(session, ",".join(MARKS[session]))


scripted_agent.Agent = Writing
scripted_agent.main(sys.argv[1:])
