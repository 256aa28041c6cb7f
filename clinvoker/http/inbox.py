"""What the wire has for the app: ASGI messages, bounded in bytes."""

import math
from collections import deque
from typing import Any

import trio

Message = dict[str, Any]


class Inbox:
    """A queue from the connection's reader to one app.

    The reader must never wait for an app's HTTP body to be read, or it would miss that the caller has gone (platform.md
    row 4) and an app that answers without reading would never end: HTTP bodies are counted against `max_body_bytes`
    before they come here, so their inbox needs no bound. Websocket messages have no end, and wait for room.
    """

    def __init__(self, max_bytes: float = math.inf) -> None:
        self._max_bytes = max_bytes
        self._bytes = 0
        self._messages: deque[tuple[int, Message]] = deque()
        self._news = trio.lowlevel.ParkingLot()
        self._room = trio.lowlevel.ParkingLot()
        self._last: Message | None = None

    async def put(self, message: Message) -> None:
        """Add a message; waits while more than `max_bytes` of websocket messages lie here."""
        size = len(message.get("bytes") or message.get("text") or b"")
        while size and self._bytes > self._max_bytes:
            await self._room.park()
        self._bytes += size
        self._messages.append((size, message))
        self._news.unpark()

    async def get(self) -> Message:
        """Take the next message (ASGI's `receive`). After a disconnect every further call returns it again."""
        await trio.lowlevel.checkpoint()
        while not self._messages and self._last is None:
            await self._news.park()
        if not self._messages and self._last is not None:
            return self._last
        size, message = self._messages.popleft()
        self._bytes -= size
        self._room.unpark()
        if message["type"].endswith(".disconnect"):
            self._last = message
        return message
