"""Control requests of ours, and waiting: what the link to a claude process stands on (claude 2.1.330)."""

from typing import Any

import trio

from actors.driver import LinkClosed, Send
from actors.process import ProcessGone
from clinvoker.backends.claude_wire import Answered, control_line


class ClaudeControl:
    """Writes lines, matches answers to requests, and wakes whoever waits for the agent's next word."""

    def __init__(self, send: Send) -> None:
        self.closed = False
        self._send = send
        self._serial = 0
        self._answers: dict[str, Answered | None] = {}
        self._changed = trio.Event()

    def close(self) -> None:
        """The output ended: nothing that is waited for will come."""
        self.closed = True
        self.wake()

    def wake(self) -> None:
        """Something may have changed: whoever waits is to look again."""
        self._changed.set()
        self._changed = trio.Event()

    async def wait(self) -> None:
        """Wait for the next `wake`. Raises `LinkClosed` once the output has ended."""
        if self.closed:
            raise LinkClosed
        await self._changed.wait()

    def answer(self, answered: Answered) -> None:
        """Take an answer; one that nobody waits for any more is dropped."""
        if answered.request_id in self._answers:
            self._answers[answered.request_id] = answered
            self.wake()

    async def request(self, subtype: str, **fields: Any) -> Answered:  # noqa: ANN401 - the protocol's own
        """Send a control request and wait for its answer, be it yes or no. Raises `LinkClosed`."""
        self._serial += 1
        request_id = f"clinvoker-{self._serial}"
        self._answers[request_id] = None
        try:
            await self.write(control_line(request_id, subtype, fields))
            while (answered := self._answers[request_id]) is None:
                await self.wait()
            return answered
        finally:
            del self._answers[request_id]

    async def write(self, lines: bytes) -> None:
        """Write whole lines. Raises `LinkClosed`."""
        try:
            await self._send(lines)
        except ProcessGone as error:
            raise LinkClosed from error
