"""The log of what reached the model: a test's proof that a call was made, and that it ended when it had to."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import trio

Status = Literal["open", "finished", "client_gone", "cut"]


@dataclass(slots=True)
class Request:
    """One call of the model; `started` and `ended` are `time.monotonic()`, the same clock in every process."""

    number: int
    api: str
    method: str
    path: str
    body: Any
    text: str
    kind: Literal["turn", "tool_result", "side"]
    """`turn` answers the user, `tool_result` goes on after a tool, `side` is the CLI's own errand (titles, probes)."""
    attempt: int
    headers: dict[str, str]
    started: float = field(default_factory=time.monotonic)
    ended: float | None = None
    status: Status = "open"
    http_status: int = 0


class RequestLog(list[Request]):
    """All requests, oldest first."""

    def __init__(self, file: Path | None = None, *, keep_bodies: bool = True) -> None:
        super().__init__()
        self._keep_bodies = keep_bodies
        self._attempts: Counter[tuple[str, str]] = Counter()
        self._changed = trio.Event()
        self._file = file

    def attempt(self, api: str, text: str) -> int:
        """Count this attempt at a text: the n-th, from 1."""
        self._attempts[api, text] += 1
        return self._attempts[api, text]

    def open(self, request: Request) -> None:
        """Enter a request whose answer begins."""
        self.append(request)
        self._tell(request)

    def close(self, request: Request, status: Status) -> None:
        """Note how it ended."""
        request.status = status
        request.ended = time.monotonic()
        if not self._keep_bodies:
            request.body = None
        self._tell(request)

    def of(self, text: str) -> list[Request]:
        """Every request whose user text holds `text`, side requests left out."""
        return [request for request in self if text in request.text and request.kind != "side"]

    async def wait_until(self, condition: Callable[[RequestLog], bool]) -> None:
        """Wait until the log satisfies `condition`, looked at after every change; bound it with a cancel scope."""
        while not condition(self):
            await self._changed.wait()

    def _tell(self, request: Request) -> None:
        self._changed.set()
        self._changed = trio.Event()
        if self._file is not None:
            skipped = {"body", "headers"} if request.ended else set()  # told when it opened
            line = {name: getattr(request, name) for name in Request.__slots__ if name not in skipped}
            with self._file.open("a") as file:
                file.write(json.dumps(line | {"time": time.time()}) + "\n")
