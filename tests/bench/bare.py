"""The echo agent without anything between: its pipes, read by a plain loop. What a daemon cannot go below."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator
from typing import Any, NamedTuple, Self

_READ = 1 << 18


class Read(NamedTuple):
    """A read: when, and the lines that it completed."""

    at: float
    lines: list[bytes]


class BareEcho:
    """A running echo agent, its handshake done."""

    def __init__(self, command: list[str]) -> None:
        self._command = command
        self._requests = 0

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._in, self._out = self._process.stdin.fileno(), self._process.stdout.fileno()
        self._call("initialize", protocolVersion=1)
        return self

    def __exit__(self, *_: object) -> None:
        with self._process as process:
            process.kill()

    def open(self) -> str:
        """Open a session."""
        session: str = self._call("session/new", cwd="/", mcpServers=[])["sessionId"]
        return session

    def prompt(self, session: str, text: str) -> None:
        """Ask, without waiting."""
        self._send("session/prompt", sessionId=session, prompt=[{"type": "text", "text": text}])

    def read(self, answers: int = 1) -> Iterator[Read]:
        """Read until so many answers are complete."""
        partial = b""
        while answers:
            data = os.read(self._out, _READ)
            assert data, "the agent has ended"
            *lines, partial = (partial + data).split(b"\n")
            yield Read(time.perf_counter(), lines)
            answers -= sum(line.startswith(b'{"jsonrpc":"2.0","id":') for line in lines)

    def _call(self, method: str, **params: Any) -> Any:
        self._send(method, **params)
        messages = (json.loads(line) for read in self.read() for line in read.lines)
        return next(message["result"] for message in messages if "result" in message)

    def _send(self, method: str, **params: Any) -> None:
        self._requests += 1
        message = {"jsonrpc": "2.0", "id": self._requests, "method": method, "params": params}
        rest = json.dumps(message).encode() + b"\n"
        while rest:
            rest = rest[os.write(self._in, rest) :]


def chunk(line: bytes) -> tuple[str, str] | None:
    """The session and the text of one line; None for an answer to a request, and for what is no text."""
    message = json.loads(line)
    if "method" not in message or "content" not in message["params"]["update"]:
        return None
    params = message["params"]
    return params["sessionId"], params["update"]["content"]["text"]
