"""One connection to the gate: messages of the protocol as lines, answered side by side."""

import itertools
from contextlib import suppress
from typing import Any

import msgspec
import trio
from msgspec import Struct

from actors.driver import CallTool
from clinvoker.mcp.server import McpServer, Message, read_message

LINE = 16 * 1024 * 1024
"""The longest message, bytes."""

SIGN_S = 10.0
"""Seconds between two signs of life of a call that waits: MCP clients give up after a minute without any."""

_encode = msgspec.json.Encoder().encode


class Offer(Struct, eq=False):
    """What a key opens, until it is withdrawn."""

    server: McpServer
    call: CallTool
    withdrawn: trio.Event


class _Meta(Struct, rename="camel", frozen=True):
    progress_token: int | str | None = None


class _Params(Struct, rename="camel"):
    """What requests and notifications may have that concern the conversation as such."""

    meta: _Meta = msgspec.field(name="_meta", default=_Meta())
    request_id: int | str = ""


class Connection:
    """Reads and writes lines; ends when the other side does, or the offer is withdrawn."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self._rest = bytearray()
        self._writing = trio.Lock()
        self._answering: dict[int | str, trio.CancelScope] = {}

    async def read_line(self) -> bytes | None:
        """The next line; None when there are no more, or after one that is too long."""
        searched = 0
        while (end := self._rest.find(b"\n", searched)) < 0:
            searched = len(self._rest)
            piece = b"" if searched > LINE else await self._stream.receive_some()
            if not piece:
                return None
            self._rest += piece
        line = bytes(self._rest[:end])
        del self._rest[: end + 1]
        return line

    async def serve(self, offer: Offer) -> None:
        """Answer what comes."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._read, offer, nursery)
            await offer.withdrawn.wait()
            nursery.cancel_scope.cancel()

    async def _read(self, offer: Offer, nursery: trio.Nursery) -> None:
        with suppress(trio.BrokenResourceError):
            while (line := await self.read_line()) is not None:
                with suppress(msgspec.DecodeError):
                    self._take(read_message(line), offer, nursery)
        nursery.cancel_scope.cancel()

    def _take(self, message: Message, offer: Offer, nursery: trio.Nursery) -> None:
        if message.id is not None:
            nursery.start_soon(self._answer, message, message.id, offer)
        elif message.method == "notifications/cancelled":
            cancelled = msgspec.json.decode(message.params, type=_Params).request_id
            if cancelled in self._answering:
                self._answering[cancelled].cancel()

    async def _answer(self, message: Message, request: int | str, offer: Offer) -> None:
        with trio.CancelScope() as scope:
            self._answering[request] = scope
            try:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._give_signs_of_life, message)
                    answered = await offer.server.answer(message, offer.call)
                    nursery.cancel_scope.cancel()
            finally:
                del self._answering[request]
            if answered is not None:
                await self._write(answered)

    async def _give_signs_of_life(self, message: Message) -> None:
        token = None
        with suppress(msgspec.DecodeError):
            token = msgspec.json.decode(message.params, type=_Params).meta.progress_token
        for count in itertools.count(1) if token is not None else ():
            await trio.sleep(SIGN_S)
            params = {"progressToken": token, "progress": count}
            await self._write({"jsonrpc": "2.0", "method": "notifications/progress", "params": params})

    async def _write(self, message: dict[str, Any]) -> None:
        async with self._writing:
            with suppress(trio.BrokenResourceError):  # whoever reads sees that too
                await self._stream.send_all(_encode(message) + b"\n")
