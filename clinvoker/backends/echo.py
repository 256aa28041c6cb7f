# ruff: noqa: ANN401 - what arrives is any JSON, until it is looked at
# pyright: reportUnknownVariableType=false, reportUnknownMemberType=false, reportUnknownArgumentType=false
"""The built-in agent: it answers a prompt with the prompt's own words, one at a time, over ACP.

    python -m clinvoker.backends.echo [--delay-ms N]

It needs no key, no network and no program, so a first request works on any machine. `--delay-ms` is the pause before
every word, for watching an answer come. It takes no images, no model and no system prompt, has no tools, and says of
every session that it has no commands, so that whoever guards against those may let a prompt be as it is. A session
holds nothing, so any id can be resumed.

One loop without threads: it reads whenever there is something to read, and writes the next words of every answer when
the reader has taken the last ones. So it never waits for a slow reader, and can be cancelled in mid-answer.

The standard library alone, and little of it: the agent is there in 25 ms, in 12 MB.
"""

import json
import os
import re
import selectors
import sys
import time
from typing import Any

_READ = 64 * 1024
_BATCH = 64 * 1024
"""Bytes written ahead of the reader: enough for few system calls, little enough to be cancelled soon."""

_WORD = re.compile(r"\s*\S+\s*\Z|\s*\S+|\s+")
_METHOD_NOT_FOUND = -32601
_INVALID_PARAMS = -32602
_PARSE_ERROR = -32700
_METHODS = ("session/load", "session/resume", "session/close", "session/prompt")


class _Answer:
    """An answer that is being given. Its words are found as they are said, for a prompt may be long."""

    def __init__(self, request: int | str, session: str, prompt: str) -> None:
        self.request = request
        self.session = session
        self.count = 0
        self.due = 0.0
        self._prompt = prompt
        self._position = 0

    def word(self) -> str:
        """Return the next word with the white space around it; nothing at the end."""
        found = _WORD.match(self._prompt, self._position)
        if found is None:
            return ""
        self._position = found.end()
        self.count += 1
        return found[0]

    @property
    def words_in_prompt(self) -> int:
        """How many words the prompt has."""
        return len(self._prompt.split())


class Echo:
    """The agent, without its input and output: `take` lines, `give` lines."""

    def __init__(self, delay: float = 0.0) -> None:
        self._delay = delay
        self._sessions = 0
        self._answers: dict[str, _Answer] = {}
        self._out: list[str] = []
        # ASCII alone, so that even half a surrogate pair comes back as it came.
        self._encode = json.JSONEncoder(separators=(",", ":"), check_circular=False).encode

    @property
    def due(self) -> float | None:
        """When the next word is to be said (`time.monotonic`); None when no answer is being given."""
        return min((answer.due for answer in self._answers.values()), default=None)

    def take(self, line: bytes) -> None:
        """Take a line of input."""
        try:
            message = json.loads(line)
        except (ValueError, RecursionError):
            self._reply(None, error={"code": _PARSE_ERROR, "message": "Parse error"})
            return
        method, request, params = _get(message, "method"), _get(message, "id"), _get(message, "params")
        if method == "session/cancel":
            self._end(str(_get(params, "sessionId")), "cancelled")
        elif isinstance(method, str) and isinstance(request, int | str):
            self._call(request, method, params)

    def give(self) -> bytes:
        """Return what is to be written now: a batch at most, with the words of all answers in turn."""
        size = 0
        while size < _BATCH and self._answers:
            now = time.monotonic()
            ready = [answer for answer in self._answers.values() if answer.due <= now]
            if not ready:
                break
            size += sum(map(self._speak, ready))
        given, self._out = "".join(self._out), []
        return given.encode()

    def _speak(self, answer: _Answer) -> int:
        word = answer.word()
        if not word:
            self._end(answer.session, "end_turn")
            return 0
        update = {"sessionUpdate": "agent_message_chunk", "content": {"type": "text", "text": word}}
        if self._delay:
            answer.due += self._delay
        return self._update(answer.session, update)

    def _end(self, session: str, stop_reason: str) -> None:
        answer = self._answers.pop(session, None)
        if answer is not None:
            read = answer.words_in_prompt
            usage = {"inputTokens": read, "outputTokens": answer.count, "totalTokens": read + answer.count}
            self._reply(answer.request, result={"stopReason": stop_reason, "usage": usage})

    def _call(self, request: int | str, method: str, params: Any) -> None:
        session = _get(params, "sessionId")
        match method:
            case "initialize":
                self._reply(request, result=_ABOUT)
            case "session/new":
                self._sessions += 1
                session = f"echo-{os.getpid()}-{self._sessions}"
                self._reply(request, result={"sessionId": session})
                self._update(session, _COMMANDS)
            case "session/resume" | "session/load" | "session/close" if isinstance(session, str):
                self._end(session, "cancelled")
                self._reply(request, result={})
                if method != "session/close":
                    self._update(session, _COMMANDS)
            case "session/prompt" if isinstance(session, str):
                self._prompt(request, session, _get(params, "prompt"))
            case _ if method in _METHODS:
                self._reply(request, error={"code": _INVALID_PARAMS, "message": "sessionId is missing"})
            case _:
                self._reply(
                    request, error={"code": _METHOD_NOT_FOUND, "message": f"Method not found: {method}"}
                )

    def _prompt(self, request: int | str, session: str, blocks: Any) -> None:
        if session in self._answers:
            self._reply(request, error={"code": _INVALID_PARAMS, "message": "this session is busy"})
            return
        texts = [_get(block, "text") for block in blocks] if isinstance(blocks, list) else []
        text = "".join(text for text in texts if isinstance(text, str))
        answer = self._answers[session] = _Answer(request, session, text)
        answer.due = time.monotonic() + self._delay

    def _reply(self, request: int | str | None, **outcome: Any) -> None:
        self._send({"id": request, **outcome})

    def _update(self, session: str, update: dict[str, Any]) -> int:
        return self._send({"method": "session/update", "params": {"sessionId": session, "update": update}})

    def _send(self, members: dict[str, Any]) -> int:
        line = self._encode({"jsonrpc": "2.0", **members}) + "\n"
        self._out.append(line)
        return len(line)


def _get(members: Any, name: str) -> Any:
    """Return a member of what should be an object; None when it is none, or has none of that name."""
    return members.get(name) if isinstance(members, dict) else None


_ABOUT: dict[str, Any] = {
    "protocolVersion": 1,
    "agentInfo": {"name": "echo", "title": "Echo", "version": "1"},
    "agentCapabilities": {
        "loadSession": True,
        "promptCapabilities": {"image": False},
        "sessionCapabilities": {"close": {}, "resume": {}},
    },
    "authMethods": [],
}


_COMMANDS: dict[str, Any] = {"sessionUpdate": "available_commands_update", "availableCommands": []}


def serve(echo: Echo, reading: int, writing: int) -> None:
    """Serve until the input ends or the reader has gone."""
    for descriptor in (reading, writing):
        os.set_blocking(descriptor, False)
    ready = selectors.PollSelector()  # epoll refuses files
    ready.register(reading, selectors.EVENT_READ)
    partial, rest = b"", b""
    while True:
        rest = rest or echo.give()
        _watch(ready, writing, on=bool(rest))
        pause = None if rest or echo.due is None else max(0.0, echo.due - time.monotonic())
        for key, _ in ready.select(pause):
            if key.fd == writing:
                rest = rest[os.write(writing, rest) :]
                continue
            data = os.read(reading, _READ)
            if not data:
                return
            *lines, partial = (partial + data).split(b"\n")
            for line in lines:
                echo.take(line)


def _watch(ready: selectors.BaseSelector, writing: int, *, on: bool) -> None:
    if on and writing not in ready.get_map():
        ready.register(writing, selectors.EVENT_WRITE)
    elif not on and writing in ready.get_map():
        ready.unregister(writing)


def main(arguments: list[str]) -> int:
    """Run the agent on standard input and output."""
    match arguments:
        case []:
            delay = 0.0
        case ["--delay-ms", number] if number.isdecimal():
            delay = int(number) / 1000
        case [*_, "--version"]:
            sys.stdout.write("1\n")
            return 0
        case _:
            sys.stderr.write("usage: python -m clinvoker.backends.echo [--delay-ms N]\n")
            return 2
    try:
        serve(Echo(delay), sys.stdin.fileno(), sys.stdout.fileno())
    except (BrokenPipeError, ConnectionResetError, KeyboardInterrupt):
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
