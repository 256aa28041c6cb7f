"""The actor that owns the database: writes in groups, reads beside them, and lets go of what is old.

An answered write is on the disk. Writes that wait together become one transaction on a worker thread (group commit);
their order is that of the mailbox. A fault of the disk is answered with `Refusal(STORAGE)`; the actor lives on, and
the next write tries again. Use it through `StoreClient`.
"""

import sqlite3
from collections import deque
from typing import Any

import trio
from msgspec import Struct

from actors.actor import Actor
from actors.change import Change as Changed
from actors.errors import Code, Refusal
from actors.mailbox import Emit, Reply, Stream
from clinvoker.logs import get_logger
from clinvoker.store import faults, retention
from clinvoker.store.changes import Change, weight
from clinvoker.store.database import Database
from clinvoker.store.errors import StoreError
from clinvoker.store.queries import Read
from clinvoker.store.readers import Readers
from clinvoker.store.writer import Writer

_log = get_logger("clinvoker.store")


class Write(Stream[None], frozen=True):
    """Changes that are made together or not at all; answered once they are durable."""

    changes: tuple[Change, ...]


class StoreLimits(Struct, frozen=True):
    """Bounds of the store, in seconds and bytes. Without `retention` nothing expires."""

    retention: float | None = 30 * 86400.0
    size: int = 1024**3
    group: int = 8 * 1024**2
    """What one transaction takes, about."""
    readers: int = 2
    housekeeping: float = 600.0


class Store(Actor):
    """The only owner of connections to the database."""

    def __init__(self, database: Database, limits: StoreLimits = StoreLimits()) -> None:  # noqa: B008 - frozen
        super().__init__()
        self._database = database
        self._limits = limits
        self._writer = Writer(database)
        self._readers = Readers(database)
        self._waiting: deque[tuple[Write, Reply[None]]] = deque()
        self._replies: dict[int, Reply[None]] = {}
        """By the identity of the message, from `admit` to `produce`."""
        self._in_hand = 0
        self._unanswered = 0
        """Streams that were accepted and have not ended."""
        self._grown = 0
        """Bytes written since housekeeping looked."""
        self._changed = Changed()
        self._writing = trio.CapacityLimiter(1)
        self._reading = trio.CapacityLimiter(limits.readers)

    async def started(self) -> None:
        """Open the database; a damaged one is set aside. Raises `StoreError`."""
        await trio.to_thread.run_sync(self._writer.open, limiter=self._writing)
        self.nursery.start_soon(self._commit)
        self.nursery.start_soon(self._keep_house)

    async def admit(self, message: Stream[Any]) -> None:
        """Accept a `Write`, which takes its place in the order here, or a `Read`."""
        match message:
            case Write():
                reply = self._replies[id(message)] = Reply[None]()
                self._waiting.append((message, reply))
            case Read():
                pass
            case _:
                await super().admit(message)
        self._unanswered += 1
        self._changed.announce()

    async def produce(self, message: Stream[Any], emit: Emit[Any]) -> None:
        """Answer when the write is durable, or with what was read."""
        try:
            match message:
                case Write():
                    await self._replies.pop(id(message)).wait()
                    await emit(None)
                case Read():
                    await emit(await self._read(message))  # pyright: ignore[reportUnknownArgumentType]
                case _:
                    await super().produce(message, emit)
        finally:
            self._unanswered -= 1
            self._changed.announce()

    async def stopping(self) -> None:
        """Write what was accepted, let everyone have their answer, and close."""
        try:
            await self._changed.wait_until(
                lambda: not self._waiting and not self._in_hand and not self._unanswered
            )
        finally:
            with trio.CancelScope(shield=True):
                self._readers.close()
                await trio.to_thread.run_sync(self._writer.close, limiter=self._writing)

    async def _read(self, question: Read[Any]) -> object:
        try:
            return await trio.to_thread.run_sync(self._readers.answer, question, limiter=self._reading)
        except (sqlite3.Error, OSError) as error:
            raise faults.as_refusal(error) from None
        except (ValueError, OverflowError) as error:
            raise Refusal(Code.INVALID_REQUEST, f"that cannot be looked for: {error}") from None

    async def _commit(self) -> None:
        try:
            while True:
                await self._changed.wait_until(lambda: self._waiting)
                await self._commit_group()
                self._changed.announce()
        finally:
            while self._waiting:
                self._waiting.popleft()[1].fail(Refusal(Code.STORAGE, "the store has stopped"))
            self._changed.announce()

    async def _commit_group(self) -> None:
        group = self._next_group()
        self._in_hand = len(group)
        failures: list[Exception | None] = [Refusal(Code.STORAGE, "the store has stopped")] * len(group)
        try:
            writes = [write.changes for write, _ in group]
            failures = await trio.to_thread.run_sync(self._writer.apply, writes, limiter=self._writing)
        finally:
            self._in_hand = 0
            for (_, reply), failure in zip(group, failures, strict=True):
                if failure is None:
                    reply.answer(None)
                else:
                    reply.fail(self._refuse(failure))

    def _next_group(self) -> list[tuple[Write, Reply[None]]]:
        group = [self._waiting.popleft()]
        size = weight(group[0][0])
        while self._waiting and size < self._limits.group:
            group.append(self._waiting.popleft())
            size += weight(group[-1][0])
        self._grown += size
        return group

    def _refuse(self, failure: Exception) -> Refusal:
        if not isinstance(failure, Refusal):
            _log.error("store_write_failed", error=faults.describe(failure))
        return faults.as_refusal(failure)

    async def _keep_house(self) -> None:
        while True:
            self._grown = 0
            try:
                while await trio.to_thread.run_sync(self._housekeeping_step, limiter=self._writing):
                    # Writers come first.
                    await self._changed.wait_until(lambda: not self._waiting)
                    await trio.sleep(0.01)
            except (sqlite3.Error, StoreError, OSError, Refusal) as error:
                _log.error("store_housekeeping_failed", error=faults.describe(error))
            with trio.move_on_after(self._limits.housekeeping):
                await self._changed.wait_until(lambda: self._grown > self._limits.size // 32)

    def _housekeeping_step(self) -> bool:
        """Let go of a little of what is too old or too much; say whether there is more of it."""
        gone = 0
        if self._limits.retention is not None:
            before = self._database.clock() - self._limits.retention
            gone = self._writer.step(lambda connection: retention.expire(connection, before))
        if not gone and self._writer.aside(lambda connection: retention.over(connection, self._limits.size)):
            gone = self._writer.step(retention.purge_oldest)
            _log.warning("store_purged", deleted=gone, size=self._limits.size)
        return self._writer.aside(retention.give_back) or gone > 0
