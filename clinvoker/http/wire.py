"""What the protocol layer asks of the connection under it."""

from collections.abc import Awaitable, Callable
from typing import Any, Protocol


class Wire(Protocol):
    """One accepted socket, as `http1`, `websocket` and `exchange` see it."""

    closing: bool
    """Our half is closed or about to be: nothing more is parsed."""

    @property
    def listening(self) -> bool:
        """Whether the reader waits for the peer (and not for our own app)."""
        ...

    def patience(self, seconds: float) -> None:
        """Give the peer this long from now for what comes next; then `Http1.timed_out` is called."""
        ...

    def wake(self) -> None:
        """Have the reader call `Http1.resume` although the peer sent nothing new."""
        ...

    def abort(self) -> None:
        """Drop the connection with a reset and cancel all its tasks."""
        ...

    def start_soon(self, function: Callable[..., Awaitable[Any]], *args: object) -> None:
        """Run a task that ends with the connection."""
        ...
