"""The agents' own records of conversations: removed with the session that they belong to, where they can be found."""

from collections.abc import Iterable
from contextlib import suppress
from glob import glob
from pathlib import Path

import trio

from actors.driver import Driver


async def remove_records(driver: Driver, conversation: str) -> None:
    """Remove what the agent keeps of a conversation; what cannot be removed stays."""
    if patterns := driver.records(conversation):
        await trio.to_thread.run_sync(_remove, patterns)


def _remove(patterns: Iterable[str]) -> None:
    for pattern in patterns:
        for path in glob(pattern):  # noqa: PTH207 - absolute patterns are beyond pathlib
            with suppress(OSError):
                Path(path).unlink()
