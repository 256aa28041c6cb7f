"""A run's numbered event log: written by one, read by any number, each from a cursor of its own."""

from datetime import UTC, datetime

from msgspec import UNSET, UnsetType

from actors.change import Change
from actors.errors import Code, Refusal
from actors.messages import (
    Complete,
    Entry,
    Event,
    Failed,
    Message,
    Permission,
    Thinking,
    ToolResult,
    ToolUse,
)

ENTRY_COST = 300
"""Bytes that an entry takes beside its text, about."""


def timestamp() -> str:
    """Return the time now as events carry it."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class Log:
    """The entries of one run, numbered from 1. Beyond `limit` bytes the oldest are dropped.

    With `awaits_keeping`, readers see an entry only when it was kept elsewhere (`keep`): what a reader has seen is
    never lost. What is not kept is never dropped: whoever writes more than a keeper takes waits (`wait_room`).
    """

    def __init__(self, run_id: str, limit: int, *, awaits_keeping: bool = False) -> None:
        self._run_id = run_id
        self._awaits_keeping = awaits_keeping
        self._kept = 0
        self._limit = limit
        self._entries: list[Entry] = []
        self._dropped = 0
        self._size = 0
        self._written = self._taken = self._settled = 0
        """Bytes so far: appended, given out to be kept, and kept."""
        self._grown = Change()
        self.ended = False

    @property
    def last(self) -> int:
        """The number of the newest entry, 0 if there is none."""
        return self._dropped + len(self._entries)

    @property
    def visible(self) -> int:
        """The number of the newest entry that readers may see."""
        return self._kept if self._awaits_keeping else self.last

    @property
    def is_told(self) -> bool:
        """Whether all there will ever be is visible."""
        return self.ended and self.visible == self.last

    @property
    def dropped(self) -> int:
        """The number of the newest entry that is no longer here."""
        return self._dropped

    def append(
        self, events: list[Event], backend: str, session_id: str, task: int | UnsetType = UNSET
    ) -> None:
        """Number the events and wake whoever follows."""
        now = timestamp()
        seq = self.last
        before = self._size
        for event in events:
            seq += 1
            self._entries.append(Entry(event.TYPE, backend, event, now, self._run_id, seq, session_id, task))
            self._size += ENTRY_COST + _text_size(event)
        self._written += self._size - before
        if self._size > self._limit:
            self._drop_oldest()
        self._grown.announce()

    def end(self) -> None:
        """Nothing more will come."""
        self.ended = True
        self._grown.announce()

    def keep(self, seq: int) -> None:
        """Entries up to number `seq` are kept: readers may have them."""
        self._kept = seq
        self._settled = self._taken
        self._grown.announce()

    def give_up_keeping(self) -> None:
        """Take back what is not kept, which no reader has seen; readers get what comes from now on as it is."""
        for entry in self._entries[self._kept - self._dropped :]:
            self._size -= ENTRY_COST + _text_size(entry.content)
        del self._entries[self._kept - self._dropped :]
        self._awaits_keeping = False
        self.ended = False
        self._grown.announce()

    def after(self, seq: int, most: int) -> list[Entry]:
        """Return up to `most` visible entries after number `seq`. Raises `Refusal` if some were dropped already."""
        if seq < self._dropped:
            message = f"events {seq + 1} to {self._dropped} of the run are no longer kept"
            raise Refusal(Code.READER_TOO_SLOW, message)
        return self._entries[seq - self._dropped : min(seq + most, self.visible) - self._dropped]

    def unkept(self, most: int) -> list[Entry]:
        """Return up to `most` entries that are yet to be kept."""
        entries = self._entries[self._kept - self._dropped : self._kept - self._dropped + most]
        if self._kept + len(entries) == self.last:
            self._taken = self._written
        return entries

    async def wait_after(self, seq: int) -> None:
        """Wait until there is a visible entry after number `seq`, or all there will ever be is visible."""
        await self._grown.wait_until(lambda: self.visible > seq or self.is_told)

    async def wait_unkept(self) -> None:
        """Wait until there is an entry to keep, or there never will be."""
        await self._grown.wait_until(lambda: self.last > self._kept or self.ended)

    @property
    def has_room(self) -> bool:
        """Whether no more than the limit waits to be kept."""
        return not self._awaits_keeping or self._written - self._settled <= self._limit

    async def wait_room(self) -> None:
        """Wait until no more than the limit waits to be kept."""
        await self._grown.wait_until(lambda: self.has_room)

    def _drop_oldest(self) -> None:
        """Drop down to three quarters of the limit, so that it is not done for every entry."""
        dropped = 0
        most = self.visible - self._dropped - 1
        while self._size > self._limit * 3 // 4 and dropped < most:
            self._size -= ENTRY_COST + _text_size(self._entries[dropped].content)
            dropped += 1
        del self._entries[:dropped]
        self._dropped += dropped


def _text_size(event: Event) -> int:
    match event:
        case Message(text=text) | Thinking(text=text):
            return len(text)
        case ToolResult(output=text):
            return len(text)
        case Complete(output=text) | Failed(message=text):
            return len(text) + (0 if event.result is UNSET else len(bytes(event.result)))
        case ToolUse(input=value) | Permission(input=value):
            return len(repr(value))
        case _:
            return 0
