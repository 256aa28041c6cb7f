"""The agent's end of a claude link, which says what a transcript holds, without a process."""

import json
from pathlib import Path

import trio
import trio.testing

from actors.messages import Message, Options, Prompt, Start
from actors.outbox import Outbox
from clinvoker.backends.claude_link import ClaudeLink
from tests.backends.harness import Asked, no_tools, only

RECORDED = Path(__file__).parent / "transcripts" / "claude"
OPUS = "claude-opus-5-5"
START = Start(OPUS, "/ws")
SCHEMA = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}


class Wire:
    """The agent's end of a link: keeps what was written, answers control requests, plays lines."""

    def __init__(self, **answers):
        self.written = []
        self.answers = answers
        self.link = ClaudeLink(self.send, "the-id", resumed=False)
        self.said = trio.Event()

    async def send(self, data):
        for line in data.splitlines():
            message = json.loads(line)
            self.written.append(message)
            if message["type"] == "control_request":
                answer = self.answers.get(message["request"]["subtype"], {"subtype": "success"})
                answer = {**answer, "request_id": message["request_id"]}
                self.play({"type": "control_response", "response": answer})
            elif message["type"] == "user":
                self.said.set()

    def play(self, *lines):
        for line in lines:
            self.link.feed(line if isinstance(line, bytes) else json.dumps(line).encode())

    async def turn(self, lines, prompt="hi", ask=None, options=None):
        """Run a turn in which the agent says `lines`."""
        await self.link.open(options or Options(workdir="/ws"), None)
        out = Outbox()
        self.said = trio.Event()
        with trio.fail_after(2):
            async with trio.open_nursery() as nursery:
                asked = prompt if isinstance(prompt, Prompt) else Prompt(prompt)
                nursery.start_soon(self.link.turn, "the-id", asked, out, ask or Asked(), no_tools)
                await self.said.wait()
                self.play(*lines)
                await out.wait_ended()
        return await out.take()


def recorded(name):
    return (RECORDED / f"{name}.jsonl").read_bytes().splitlines()


def messages(events):
    return [event.text for event in only(events, Message)]
