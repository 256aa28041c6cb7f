"""The scripted agent with one thing more: `{{ask}}` asks leave, says what came of it, and ends the turn."""

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

import scripted_agent

OPTIONS = [("y", "allow_once"), ("n", "reject_once")]


class Asking(scripted_agent.Agent):
    """Knows the answers to its questions: their ids are those of its sessions."""

    def take(self, message: dict[str, Any]) -> None:
        """Take a message."""
        session = message.get("id")
        if "method" not in message and session in self.turns:
            self.say(session, f"told {message['result']['outcome'].get('optionId')}")
            self.send(id=self.turns.pop(session)[2], result={"stopReason": "end_turn"})
        else:
            super().take(message)


@scripted_agent.directive
def ask(agent: scripted_agent.Agent, session: str, argument: str) -> None:
    """Ask leave."""
    options = [{"optionId": option, "name": kind, "kind": kind} for option, kind in OPTIONS]
    call = {"toolCallId": "t", "title": "shell", "kind": "execute", "rawInput": {"command": "ls"}}
    params = {"sessionId": session, "toolCall": call, "options": options}
    agent.send(id=session, method="session/request_permission", params=params)


scripted_agent.Agent = Asking
scripted_agent.main(sys.argv[1:])
