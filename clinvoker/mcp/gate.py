"""Where agents reach the client's tools that start an MCP server as a program of their own, which is our bridge.

    agent ──stdio── bridge ──unix socket── gate ── McpServer

The socket has a name in the abstract namespace that nobody can guess, takes only processes of the same user, and wants a
key, which is one conversation's.
"""

import secrets
import socket
import struct
import sys
from contextlib import suppress
from os import getuid
from pathlib import Path
from typing import Any

import trio

from actors.driver import CallTool
from actors.messages import Tool
from clinvoker.mcp import bridge
from clinvoker.mcp.connection import Connection, Offer
from clinvoker.mcp.server import McpServer

PATIENCE = 10.0
"""Seconds in which a connection must say its key."""


class Gate:
    """The socket of one link. It is there once tools are offered."""

    def __init__(self) -> None:
        self._address = f"clinvoker-{secrets.token_hex(16)}"
        self._listeners: list[trio.SocketListener] = []
        self._wanted = trio.Event()
        self._offers: dict[str, Offer] = {}

    def offer(self, name: str, tools: tuple[Tool, ...], call: CallTool) -> tuple[str, dict[str, Any]]:
        """Offer these tools under that name; returns the key, and how an agent starts the server (ACP's `McpServerStdio`)."""
        if not self._listeners:
            self._listen()
        key = secrets.token_hex(16)
        self._offers[key] = Offer(McpServer(tools), call, trio.Event())
        environment = {"name": bridge.VARIABLE, "value": f"{self._address}:{key}"}
        command = [sys.executable, "-I", "-S", str(Path(bridge.__file__))]
        return key, {"name": name, "command": command[0], "args": command[1:], "env": [environment]}

    def withdraw(self, key: str) -> None:
        """Take an offer back: its bridges end."""
        if offer := self._offers.pop(key, None):
            offer.withdrawn.set()

    async def serve(self) -> None:
        """Let bridges in, until cancelled."""
        await self._wanted.wait()
        try:
            await trio.serve_listeners(self._welcome, self._listeners)
        finally:
            for listener in self._listeners:
                listener.socket.close()

    def _listen(self) -> None:
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(f"\0{self._address}")
        listener.listen()
        self._listeners.append(trio.SocketListener(trio.socket.from_stdlib_socket(listener)))
        self._wanted.set()

    async def _welcome(self, stream: trio.SocketStream) -> None:
        """Serve one bridge."""
        with suppress(trio.BrokenResourceError):
            async with stream:
                connection = Connection(stream)
                key: bytes | None = None
                with trio.move_on_after(PATIENCE):
                    key = await connection.read_line()
                offer = self._offers.get((key or b"").decode(errors="replace"))
                if offer is not None and _user_of(stream) == getuid():
                    await connection.serve(offer)


def _user_of(stream: trio.SocketStream) -> int:
    """The user whose process is at the other end."""
    size = struct.calcsize("3i")
    told = stream.socket.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
    _, user, _ = struct.unpack("3i", told)
    return user
