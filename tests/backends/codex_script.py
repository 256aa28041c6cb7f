"""An app-server that plays a transcript, and the lines to write one from."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from actors.messages import Options
from clinvoker.backends.codex_link import CodexLink
from tests.backends.harness import Asked, run_turn

TRANSCRIPTS = Path(__file__).parent / "transcripts" / "codex"


@dataclass
class Script:
    """An app-server that plays a transcript: it says its lines, and waits where codex waited for us."""

    lines: list[dict[str, Any]]
    sent: list[dict[str, Any]] = field(default_factory=list)
    refuse: str = ""
    signed_in: bool = True

    def __post_init__(self):
        self.link = CodexLink(self.send, has_key=False, patience_s=0.05)
        last = self.lines[-1] if self.lines else {}
        self.thread = last.get("params", {}).get("threadId", "T")

    @classmethod
    def of(cls, name: str) -> "Script":
        return cls([json.loads(line) for line in (TRANSCRIPTS / f"{name}.jsonl").read_text().splitlines()])

    def say(self, message: dict[str, Any]):
        self.link.feed(json.dumps(message, ensure_ascii=False).encode())

    async def send(self, data: bytes):
        for line in data.splitlines():
            message = json.loads(line)
            self.sent.append(message)
            match message:
                case {"method": "turn/start", "id": number}:
                    if not any("answer" in line for line in self.lines):
                        self.say({"id": number, "result": {"turn": {"id": "U"}}})
                    self.play(number)
                case {"method": method, "id": number}:
                    self.answer(method, number)
                    if method == "turn/interrupt" != self.refuse:
                        self.play()
                case {"id": _}:
                    self.play()

    def answer(self, method: str, number: int):
        if method == self.refuse:
            self.say({"id": number, "error": {"code": -32600, "message": "no rollout found for thread id T"}})
            return
        account = {"account": {"type": "chatgpt"} if self.signed_in else None, "requiresOpenaiAuth": True}
        opened = {"thread": {"id": self.thread}, "model": "gpt", "cwd": "/ws"}
        results = {"account/read": account, "thread/start": opened, "thread/resume": opened}
        self.say({"id": number, "result": results.get(method, {})})

    def play(self, number: int = 0):
        """Say lines up to and including one that wants something of us."""
        while self.lines:
            line = self.lines.pop(0)
            if "pause" in line:
                return
            self.say({"id": number, "result": line["result"]} if "answer" in line else line)
            if "id" in line:
                return

    def methods(self) -> list[str]:
        return [message.get("method", "answer") for message in self.sent]

    async def turn(self, ask: Asked | None = None) -> list[Any]:
        conversation = await self.link.open(Options(workdir="/ws"), None)
        return await run_turn(self.link, conversation, "hi", ask)


def trouble(info: object, message: str = "it broke", details: str | None = None) -> dict[str, Any]:
    return {"message": message, "codexErrorInfo": info, "additionalDetails": details}


def started() -> dict[str, Any]:
    return {"method": "turn/started", "params": {"threadId": "T", "turn": {"id": "U"}}}


def ended(status: str = "completed", error: object = None) -> dict[str, Any]:
    turn = {"id": "U", "status": status, "error": error}
    return {"method": "turn/completed", "params": {"threadId": "T", "turn": turn}}


def retried(error: dict[str, Any]) -> dict[str, Any]:
    return {
        "method": "error",
        "params": {"threadId": "T", "turnId": "U", "willRetry": True, "error": error},
    }


def notice(method: str, **params: object) -> dict[str, Any]:
    return {"method": method, "params": {"threadId": "T", "turnId": "U", **params}}
