"""An ACP agent that misbehaves on demand: the faults that real agents cannot be made to show.

    python -S -E scripted_agent.py [START-UP FAULT]

A prompt is its script: text in it is the answer, one message a word; `{{name}}` and `{{name:argument}}` are what happens
there. The standard library alone, as it must start in 20 ms. What it is told and what it starts, it writes into the
directory SCRIPT_NOTES: `cancelled` (a line for each), `deaf`, and the pid of every grandchild as `child-PID`.

Start-up faults: `--exit N [TEXT]` says TEXT on stderr and ends, `--mute` never answers, `--deaf` ignores SIGTERM,
`--garble` answers what is no protocol, `--refuse CODE TEXT` opens no session, `--unread` reads no prompt, `--version N` is what `--version` prints.
"""

import json
import os
import re
import resource
import selectors
import signal
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

NOTES = os.environ.get("SCRIPT_NOTES", "")
_SCRIPT = re.compile(rb"\{\{(\w+)(?::([^}]*))?\}\}")
_FOR_EVER = 3600.0


def note(name: str, text: str = "") -> None:
    """Leave a note for the test."""
    with open(os.path.join(NOTES, name), "a", encoding="utf-8") as file:  # noqa: PTH118, PTH123 - no pathlib
        file.write(text + "\n")


class Agent:
    """The agent's one loop: turns are generators that yield the seconds they want to wait."""

    def __init__(self) -> None:
        self.turns: dict[str, tuple[Iterator[float], float, Any]] = {}
        self.sessions = 0
        self.partial = b""
        self.reading = True
        self.reads_prompts = True
        self.obedient = True
        self.refusal: dict[str, Any] | None = None

    # Writing.

    def write(self, data: bytes) -> None:
        """Write all of it, waiting for the reader."""
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(1, rest) :]

    def send(self, **members: Any) -> None:
        """Write a message."""
        self.write(encode(**members))

    def say(self, session: str, text: str) -> None:
        """Write a piece of the answer."""
        self.write(chunk(session, text))

    # Reading.

    def serve(self) -> None:
        """Serve until the input ends."""
        ready = selectors.PollSelector()
        ready.register(0, selectors.EVENT_READ)
        while True:
            now = time.monotonic()
            due = min((turn[1] for turn in self.turns.values()), default=now + _FOR_EVER)
            if not self.reading:
                time.sleep(max(due - now, 0))
            elif ready.select(max(due - now, 0)) and not self.read():
                return
            for session, (turn, at, request) in list(self.turns.items()):
                if at <= time.monotonic():
                    self.step(session, turn, request)

    def read(self) -> bool:
        """Take what there is; False at the end."""
        data = os.read(0, 1 << 20)
        *lines, self.partial = (self.partial + data).split(b"\n")
        for line in lines:
            self.take(json.loads(line))
        return bool(data)

    def step(self, session: str, turn: Iterator[float], request: Any) -> None:
        """Let a turn go on."""
        try:
            self.turns[session] = (turn, time.monotonic() + next(turn), request)
        except StopIteration:
            del self.turns[session]

    def take(self, message: dict[str, Any]) -> None:
        """Take a message."""
        method, request, params = message.get("method"), message.get("id"), message.get("params", {})
        session = params.get("sessionId", "") if isinstance(params, dict) else ""
        if method == "initialize":
            capabilities = {"loadSession": True, "sessionCapabilities": {"close": {}, "resume": {}}}
            self.send(id=request, result={"protocolVersion": 1, "agentCapabilities": capabilities})
        elif method == "session/new" and self.refusal is not None:
            self.send(id=request, error=self.refusal)
        elif method == "session/new":
            self.sessions += 1
            self.send(id=request, result={"sessionId": f"s-{os.getpid()}-{self.sessions}"})
            self.reading = self.reads_prompts
        elif method == "session/prompt":
            text = "".join(block.get("text", "") for block in params["prompt"])
            script = text.encode("utf-8", "surrogatepass")
            self.turns[session] = (self.perform(session, request, script), 0.0, request)
        elif method == "session/cancel":
            note("cancelled", session)
            if self.obedient and session in self.turns:
                self.send(id=self.turns.pop(session)[2], result={"stopReason": "cancelled"})
        elif request is not None:
            self.send(id=request, result={})

    # Acting.

    def perform(self, session: str, request: Any, script: bytes) -> Iterator[float]:
        """Act the script, then end the turn."""
        yield 0.0
        end = {"id": request, "result": {"stopReason": "end_turn"}}
        place = 0
        for found in _SCRIPT.finditer(script):
            self.words(session, script[place : found.start()])
            place = found.end()
            name, argument = found[1].decode(), (found[2] or b"").decode()
            if name == "wait":
                yield float(argument)
            elif name == "pace":  # N words, S seconds apart
                number, _, pause = argument.partition(",")
                for word in range(int(number)):
                    self.say(session, f" {word}")
                    yield float(pause)
            elif name == "error":
                code, _, message = argument.partition(",")
                self.send(id=request, error={"code": int(code), "message": message})
                return
            elif name == "twice":
                self.send(**end)
                self.send(id=request, result={"stopReason": "max_tokens"})
                self.say(session, "late")
                self.send(id=request, error={"code": 1, "message": "later still"})
                return
            elif name == "unended":
                self.write(encode(**end)[:-1])
                os._exit(0)
            elif name == "endand":  # the end of the turn, and then this
                self.send(**end)
                DIRECTIVES[argument](self, session, "")
                return
            else:
                DIRECTIVES[name](self, session, argument)
        self.words(session, script[place:])
        self.send(**end)

    def words(self, session: str, text: bytes) -> None:
        """Say a text, word by word."""
        for word in re.findall(rb"\s*\S+\s*\Z|\s*\S+|\s+", text):
            self.say(session, word.decode("utf-8", "surrogatepass"))


def encode(**members: Any) -> bytes:
    """Return a message as a line."""
    return json.dumps({"jsonrpc": "2.0", **members}).encode() + b"\n"


def chunk(session: str, text: str) -> bytes:
    """Return a piece of an answer as a line."""
    update = {"sessionUpdate": "agent_message_chunk", "content": {"type": "text", "text": text}}
    return encode(method="session/update", params={"sessionId": session, "update": update})


# What a script may say: each takes the agent, the session and the argument.

DIRECTIVES: dict[str, Callable[[Agent, str, str], None]] = {}


def directive(act: Callable[[Agent, str, str], None]) -> Callable[[Agent, str, str], None]:
    """Register a directive under its function's name."""
    DIRECTIVES[act.__name__.rstrip("_")] = act
    return act


@directive
def exit_(agent: Agent, session: str, argument: str) -> None:
    """End with this code."""
    os._exit(int(argument or 0))


@directive
def kill(agent: Agent, session: str, argument: str) -> None:
    """Die of, or stop by, this signal."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.kill(os.getpid(), getattr(signal, argument))


@directive
def hang(agent: Agent, session: str, argument: str) -> None:
    """Do nothing any more, not even read."""
    time.sleep(float(argument or _FOR_EVER))


@directive
def deaf(agent: Agent, session: str, argument: str) -> None:
    """Ignore what asks it to end."""
    for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(signum, signal.SIG_IGN)
    agent.obedient = False


@directive
def pid(agent: Agent, session: str, argument: str) -> None:
    """Say its pid."""
    agent.say(session, str(os.getpid()))


@directive
def stderr(agent: Agent, session: str, argument: str) -> None:
    """Write so many bytes, or this text, to standard error."""
    if not argument.isdecimal():
        os.write(2, argument.encode() + b"\n")
        return
    block = b"stderr stderr stderr\n" * 3120
    left = int(argument)
    while left > 0:
        left -= os.write(2, block[:left])


@directive
def line(agent: Agent, session: str, argument: str) -> None:
    """Write one line of so many bytes."""
    block = b"x" * (1 << 20)
    for _ in range(int(argument) >> 20):
        agent.write(block)
    agent.write(b"\n")


@directive
def raw(agent: Agent, session: str, argument: str) -> None:
    """Write these bytes (hexadecimal)."""
    agent.write(bytes.fromhex(argument))


@directive
def bytes_(agent: Agent, session: str, argument: str) -> None:
    """Say these very bytes (hexadecimal) within a string of JSON."""
    agent.write(chunk(session, "@@").replace(b"@@", bytes.fromhex(argument)))


@directive
def torn(agent: Agent, session: str, argument: str) -> None:
    """Say a text of many-byte characters, one byte at a time."""
    for byte in chunk(session, "@@").replace(b"@@", "🦊é€".encode()):
        agent.write(bytes([byte]))
        time.sleep(0.0005)


@directive
def flood(agent: Agent, session: str, argument: str) -> None:
    """Say so many words as fast as a pipe takes them; without a number for ever."""
    block = chunk(session, " word") * 1000
    for _ in range(int(argument) // 1000 if argument else 1 << 40):
        agent.write(block)


@directive
def count(agent: Agent, session: str, argument: str) -> None:
    """Say the numbers up to this one."""
    agent.write(b"".join(chunk(session, f" {number}") for number in range(int(argument))))


@directive
def noise(agent: Agent, session: str, argument: str) -> None:
    """Write what no client understands: 10 lines that are no message, and more that are, but of no use."""
    nonsense = [b"", b"oops", b"{", b"[]", b"null", b"1", b'"a"', b"{}", b'{"id":7}', b"\x00\xff\xfe"]
    unknown = [
        encode(
            method="session/update", params={"sessionId": session, "update": {"sessionUpdate": "new_kind"}}
        ),
        encode(method="session/update", params={"sessionId": "nobody", "update": {"sessionUpdate": "plan"}}),
        encode(method="some/notification", params=[1, 2]),
        encode(method="some/request", id="abc", params=None),
        encode(id=987_654, result={}),
    ]
    agent.write(b"\n".join(nonsense) + b"\n" + b"".join(unknown))


@directive
def closein(agent: Agent, session: str, argument: str) -> None:
    """Close standard input."""
    os.close(0)
    agent.reading = False


@directive
def unread(agent: Agent, session: str, argument: str) -> None:
    """Read standard input no more."""
    agent.reading = False


@directive
def closeout(agent: Agent, session: str, argument: str) -> None:
    """Close standard output, and live on."""
    os.close(1)
    time.sleep(_FOR_EVER)


@directive
def spawn(agent: Agent, session: str, argument: str) -> None:
    """Start a grandchild: any of `setsid`, `double` (fork), `hold` (the pipes), `deaf`, `bare` (no environment)."""
    how = argument.split("+")
    if os.fork():
        time.sleep(0.03)  # until it has got away
        return
    if "setsid" in how:
        os.setsid()
    if "double" in how and os.fork():
        os._exit(0)
    if "deaf" in how:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if "hold" not in how:
        null = os.open(os.devnull, os.O_RDWR)
        for descriptor in (0, 1, 2):
            os.dup2(null, descriptor)
    note(f"child-{os.getpid()}")
    os.execve("/bin/sleep", ["sleep", "1000"], {} if "bare" in how else dict(os.environ))  # noqa: S606


def main(arguments: list[str]) -> None:
    """Start, or fail to."""
    agent = Agent()
    match arguments:
        case [*_, "--version", version, "--version"]:
            print(f"scripted {version}")  # noqa: T201
            return
        case ["--exit", code, *text]:
            os.write(2, " ".join(text).encode())
            os._exit(int(code))
        case ["--mute", *_]:
            while os.read(0, 1 << 16):
                pass
            return
        case ["--garble", *_]:
            os.write(1, b'hello, world\n{"jsonrpc":"2.0","id":1,"result":{"protocolVersion":"seven"}}\n')
        case ["--deaf", *_]:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            note("deaf")
        case ["--unread", *_]:
            agent.reads_prompts = False
        case ["--refuse", code, *text]:
            agent.refusal = {"code": int(code), "message": " ".join(text)}
        case _:
            pass
    agent.serve()


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except (BrokenPipeError, KeyboardInterrupt):
        os._exit(1)
