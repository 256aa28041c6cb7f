"""The ports to what outlives an actor: a run's journal and a session's memory. `clinvoker` brings the store."""

from collections.abc import Sequence
from typing import Protocol

from actors.messages import Entry, Failed


class Journal(Protocol):
    """Where one run is kept."""

    async def append(self, entries: Sequence[Entry]) -> None:
        """Keep further entries: durable on return. The run's own `Complete` or `Failed` ends it, and its turn.

        Raises `Refusal` (`STORAGE`).
        """
        ...

    async def close(self, failed: Failed) -> None:
        """End what is kept of the run by this failure, if it is kept as going: `append` has failed. Raises `Refusal`."""
        ...

    async def after(self, seq: int, most: int) -> list[Entry]:
        """Return up to `most` kept entries after number `seq`. Raises `Refusal` (`STORAGE`)."""
        ...


class Memory(Protocol):
    """What is remembered of one session."""

    async def conversation(self) -> str | None:
        """Return the agent's own id of the conversation, None if it has none yet. Raises `Refusal`."""
        ...

    async def set_conversation(self, conversation: str) -> None:
        """Remember the agent's own id of the conversation. Raises `Refusal`."""
        ...

    async def history(self) -> list[tuple[str, str]]:
        """Return the prompts and answers of the finished turns, in order. Raises `Refusal`."""
        ...
