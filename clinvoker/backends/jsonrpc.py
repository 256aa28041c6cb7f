"""A JSON-RPC peer over lines: what the drivers of ACP agents and of codex share.

It holds no task of its own. `feed` takes the lines that arrive and hands notifications and requests of the other side
to callbacks, which must not wait; `request` and its like write lines and wait for answers. Parameters stay undecoded
(`msgspec.Raw`) until the callback knows their type, so a hot notification is decoded once, into a typed struct.

    peer = Peer(send, on_notification=..., on_request=...)
    answer = await peer.request("session/new", params, NewSession)
"""

from collections.abc import Callable
from typing import Any, TypeVar

import msgspec
import trio
from msgspec import UNSET, Raw, Struct, UnsetType

from actors.driver import LinkClosed, ProtocolBroken, Send
from actors.process import ProcessGone
from clinvoker.backends.surrogates import mend

R = TypeVar("R")

Id = int | str
METHOD_NOT_FOUND = -32601
NULL = Raw(b"null")


class RpcError(Exception):
    """The other side answered a request with an error; `data` is its JSON, whatever it is."""

    def __init__(self, code: int, message: str, data: object = None) -> None:
        super().__init__(f"{message} ({code})")
        self.code = code
        self.message = message
        self.data = data


class Call(Struct, frozen=True):
    """A request of the other side. It waits for `respond`, `respond_error` or `decline`."""

    id: Id
    method: str
    params: Raw


class _Error(Struct):
    code: int = 0
    message: str = ""
    data: Any = None


class _Line(Struct, gc=False):
    """Any message. A member that is null counts as absent, for not every peer leaves out what it does not mean."""

    method: str | None = None
    id: Id | None = None
    params: Raw = NULL
    result: Raw | UnsetType = UNSET
    error: _Error | None = None


_decode = msgspec.json.Decoder(_Line).decode
_encode = msgspec.json.Encoder().encode


class Peer:
    """Our end of a connection. `version` says whether lines carry the `jsonrpc` member (codex 0.169.0 leaves it out)."""

    def __init__(
        self,
        send: Send,
        *,
        on_notification: Callable[[str, Raw], None],
        on_request: Callable[[Call], None],
        version: bool = True,
    ) -> None:
        self._send = send
        self._on_notification = on_notification
        self._on_request = on_request
        self._base: dict[str, object] = {"jsonrpc": "2.0"} if version else {}
        self._last_id = 0
        self._waiting: dict[int, Request] = {}
        self._owed: list[bytes] = []
        self._writing = trio.Lock()
        self.is_closed = False
        self.unparsed = 0
        """Lines that were no message of the protocol."""

    def feed(self, line: bytes) -> None:
        """Take one line. A callback that fails to decode its parameters (`DecodeError`) makes the line count as nonsense."""
        try:
            self._take(line)
        except (msgspec.DecodeError, RecursionError):
            self._take_mended(line)

    def closed(self) -> None:
        """No more lines come: whoever waits for an answer, or will, gets `LinkClosed`."""
        self.is_closed = True
        self._stir()

    def prepare(self, method: str, params: object) -> "Request":
        """Make a request for whoever must know it before it is sent, and while it waits; `request` is the plain way."""
        self._last_id += 1
        request = Request(self, self._last_id, method, params)
        self._waiting[self._last_id] = request
        return request

    async def request(self, method: str, params: object, answer: type[R]) -> R:
        """Ask, and wait for the answer, decoded as `answer`; give `object` when nothing in it is of use.

        Raises `RpcError`, `LinkClosed`, and `ProtocolBroken` when the answer is of another shape. When cancelled, the
        answer is ignored when it comes.
        """
        request = self.prepare(method, params)
        try:
            await request.send()
            return await request.answer(answer)
        finally:
            self.forget(request)

    def forget(self, request: "Request") -> None:
        """Ignore the answer to a request when it comes."""
        self._waiting.pop(request.id, None)

    async def notify(self, method: str, params: object = UNSET) -> None:
        """Tell something that is not answered. Raises `LinkClosed`."""
        await self.write({"method": method} if params is UNSET else {"method": method, "params": params})

    async def respond(self, id: Id, result: object) -> None:  # noqa: A002 - the protocol's word
        """Answer a `Call`. Raises `LinkClosed`."""
        await self.write({"id": id, "result": result})

    async def respond_error(self, id: Id, code: int, message: str) -> None:  # noqa: A002
        """Answer a `Call` with an error. Raises `LinkClosed`."""
        await self.write({"id": id, "error": {"code": code, "message": message}})

    def decline(self, call: Call) -> None:
        """Owe a `Call` the answer that its method is unknown."""
        error = {"code": METHOD_NOT_FOUND, "message": f"Method not found: {call.method}"}
        self._owe({"id": call.id, "error": error})

    def owe(self, call: Call, result: object) -> None:
        """Answer a `Call` from where nothing may wait: sent with the next line, or by whoever waits for an answer."""
        self._owe({"id": call.id, "result": result})

    async def settle(self) -> None:
        """Send what is owed. A link that waits for notifications, not for an answer, calls this now and then."""
        if self._owed:
            await self.write(None)

    def _take(self, line: bytes) -> None:
        message = _decode(line)
        if message.method is not None:
            if message.id is None:
                self._on_notification(message.method, message.params)
            else:
                self._on_request(Call(message.id, message.method, message.params))
        elif message.id is None or (message.result is UNSET and message.error is None):
            self.unparsed += 1
        elif isinstance(message.id, int) and (request := self._waiting.pop(message.id, None)):
            request.arrived(message)

    def _stir(self) -> None:
        for request in self._waiting.values():
            request.stirred.set()

    def _owe(self, members: dict[str, object]) -> None:
        self._owed.append(self._line(members))
        self._stir()

    def _take_mended(self, line: bytes) -> None:
        """Try once more what was refused: JavaScript agents print halves of characters."""
        try:
            if b"\\u" in line:
                self._take(mend(line))
                return
        except (ValueError, RecursionError):
            pass
        self.unparsed += 1

    def _line(self, members: dict[str, object]) -> bytes:
        return _encode({**self._base, **members}) + b"\n"

    async def write(self, members: dict[str, object] | None) -> None:
        """Send a message, after what is owed. Raises `LinkClosed`."""
        line = b"" if members is None else self._line(members)
        async with self._writing:
            if self.is_closed:
                raise LinkClosed
            owed, self._owed = self._owed, []
            try:
                await self._send(b"".join((*owed, line)))
            except ProcessGone as gone:
                raise LinkClosed from gone


class Request:
    """A request of ours: made, then sent, then answered, each step by itself."""

    def __init__(self, peer: Peer, number: int, method: str, params: object) -> None:
        self._peer = peer
        self._method = method
        self._params: object = params
        self._answer: _Line | None = None
        self.id = number
        self.is_sent = False
        self.stirred = trio.Event()

    @property
    def is_answered(self) -> bool:
        """Whether the answer has come."""
        return self._answer is not None

    def arrived(self, answer: _Line) -> None:
        """Take the answer; the peer calls this."""
        self._answer = answer
        self.stirred.set()

    async def send(self) -> None:
        """Write the request. Raises `LinkClosed`."""
        params, self._params = self._params, None
        await self._peer.write({"id": self.id, "method": self._method, "params": params})
        self.is_sent = True

    async def answer(self, answer: type[R]) -> R:
        """Wait for the answer; any number of tasks may, one after the other. Raises as `Peer.request` does."""
        while self._answer is None:
            if self._peer.is_closed:
                raise LinkClosed
            await self.stirred.wait()
            self.stirred = trio.Event()
            await self._peer.settle()
        error, result = self._answer.error, self._answer.result
        if error is not None:
            raise RpcError(error.code, error.message, error.data)
        try:
            return msgspec.json.decode(NULL if result is UNSET else result, type=answer)
        except msgspec.DecodeError as broken:
            raise ProtocolBroken(f"the answer to {self._method} is not as expected: {broken}") from broken
