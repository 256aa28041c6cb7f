"""A recorded ACP agent: it answers our requests with the lines of a transcript, without a process.

A transcript is what the agent printed, one line a line, during one prompt (`SESSION` and `PROMPT` stand for the ids);
`{"pause": 1.2}` is a silence worth keeping. `open.jsonl` holds the answers to initialize and session/new.
"""

import json
from pathlib import Path

import trio
import trio.testing

from actors.messages import Options, Prompt
from actors.outbox import Outbox
from clinvoker.backends import acp_turn
from clinvoker.backends.acp_link import AcpLink
from tests.backends.harness import Asked, no_tools

TRANSCRIPTS = Path(__file__).parent / "transcripts"


class Player:
    """An AcpLink whose agent is a transcript."""

    def __init__(self, agent, monkeypatch=None, *, model=""):
        self.agent = agent
        self.link = AcpLink(self.send, model)
        self.sent = []
        self.now = 1000.0
        self.answers = {}
        """What to answer to a method instead of the recorded answer."""
        self.prompt_sent = trio.Event()
        if monkeypatch is not None:
            monkeypatch.setattr(acp_turn.time, "monotonic", lambda: self.now)

    def lines(self, name):
        return [
            json.loads(line) for line in (TRANSCRIPTS / self.agent / f"{name}.jsonl").read_text().splitlines()
        ]

    def of(self, method):
        return [message for message in self.sent if message.get("method") == method]

    async def send(self, data):
        await trio.lowlevel.checkpoint()
        for line in data.splitlines():
            message = json.loads(line)
            self.sent.append(message)
            method = message.get("method")
            if method == "session/prompt":
                self.prompt_sent.set()
            elif "id" in message and method:
                self.reply(message)

    def reply(self, request):
        method = request["method"]
        recorded = [line["result"] for line in self.lines("open") if "result" in line]
        default = {"initialize": recorded[0], "session/new": recorded[1]}.get(method)
        answer = self.answers.get(method, {"result": default if default is not None else {}})
        self.say({"jsonrpc": "2.0", "id": request["id"], **answer})

    def say(self, message):
        self.link.feed(json.dumps(message).encode())

    async def open(self, options=None, resume=None):
        await self.link.handshake()
        return await self.link.open(options or Options(workdir="/ws"), resume)

    async def play(self, lines):
        """Say what was recorded, as slowly as it matters."""
        await self.prompt_sent.wait()
        for line in lines:
            if "pause" in line:
                self.now += line["pause"]
                continue
            if line.get("id") == "PROMPT":
                self.say({**line, "id": self.of("session/prompt")[-1]["id"]})
            else:
                self.say(line)
            if "method" in line and "id" in line:
                await trio.testing.wait_all_tasks_blocked()

    async def turn(self, lines, prompt="hi", leave="allow", conversation="SESSION"):
        """Play one turn; return its events."""
        out = Outbox()
        self.asked = Asked(leave)
        self.prompt_sent = trio.Event()
        prompt = prompt if isinstance(prompt, Prompt) else Prompt(prompt)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.play, self.lines(lines) if isinstance(lines, str) else lines)
            await self.link.turn(conversation, prompt, out, self.asked, no_tools)
        events = []
        while batch := await out.take():
            events += batch
        return events


def update(told):
    """What the agent tells of its session."""
    return {
        "jsonrpc": "2.0",
        "method": "session/update",
        "params": {"sessionId": "SESSION", "update": told},
    }


def chunk(text):
    """A piece of the answer; a pause is played as it is."""
    if isinstance(text, dict):
        return text
    return update({"sessionUpdate": "agent_message_chunk", "content": {"type": "text", "text": text}})


def end(reason):
    """The answer to the prompt."""
    return {"jsonrpc": "2.0", "id": "PROMPT", "result": {"stopReason": reason}}
