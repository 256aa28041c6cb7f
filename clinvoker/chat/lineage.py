"""Which session has had exactly this conversation so far: how callers who send it all each time reach a warm agent.

A session is filed under what a caller will send with the next message: the hash of all that was said, and, where the
client names its conversations, that name with the hash of what the user said. A turn makes that void, and files the
session anew when it ended well: a conversation that branches off is told to another session.
"""

import hashlib
from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import asynccontextmanager, suppress

import msgspec
from msgspec import Struct

from actors.errors import Refusal
from clinvoker.chat.conversation import Said
from clinvoker.store import FileSession, StoreClient


class Line(Struct, frozen=True):
    """What makes conversations one another's: the hash of all that must be equal, which leaves out what was said.

    `named` is such a hash with the client's own id of the conversation in it, and empty without one; so is `latest`,
    where the client may send the newest message alone.
    """

    scope: bytes
    named: bytes = b""
    latest: bytes = b""

    def keys(self, history: Sequence[Said]) -> tuple[bytes, ...]:
        """What a session is filed under that has had this conversation, the surest first."""
        keys: list[bytes] = []
        if self.named:
            asked = [said for said in history if said.role == "user"]
            keys.append(_chain(self.named, asked))
            if self.latest:
                keys.append(self.latest)
        keys.append(_chain(self.scope, history))
        return tuple(keys)

    def wanted(self, history: Sequence[Said]) -> tuple[bytes, ...]:
        """What to look for the session under that can go on from this history.

        One that is sent must be the session's: a name alone does not make it so.
        """
        if history:
            return tuple(key for key in self.keys(history) if key != self.latest)
        return (self.latest,) if self.latest else ()


def scope_of(*parts: object) -> bytes:
    """One hash of all that must be equal."""
    return _hash([msgspec.json.encode(parts)])


class Lineage:
    """The file: in the store, so that it outlives agents and the daemon, and ends with the sessions."""

    def __init__(self, store: StoreClient) -> None:
        self._store = store
        self._going_on: set[bytes] = set()

    @asynccontextmanager
    async def going_on(self, keys: tuple[bytes, ...]) -> AsyncGenerator[str | None]:
        """The session that is filed under the first of these: nobody else is told of it before the block is left.

        By then it must have a turn more, or be free to go on.
        """
        claimed = set(keys)
        if not claimed or claimed & self._going_on:
            yield None
            return
        self._going_on |= claimed
        try:
            yield await self._store.filed(keys)
        finally:
            self._going_on -= claimed

    async def file(self, session: str, keys: tuple[bytes, ...]) -> None:
        """File a session. Two that have had the very same conversation: the later one.

        One that is not stored, or cannot be, is not filed: the conversation is told to another.
        """
        with suppress(Refusal):
            await self._store.write(FileSession(session, keys))


def _chain(start: bytes, said: Iterable[Said]) -> bytes:
    link = start
    for each in said:
        pictures = [image.data.encode() for image in each.images]
        # Clients strip, or add, what stands at the end of an answer when they send it back.
        link = _hash(
            [link, each.role.encode(), each.text.strip().encode("utf-8", "surrogatepass"), *pictures]
        )
    return link


def _hash(parts: Iterable[bytes]) -> bytes:
    whole = hashlib.sha256()
    for part in parts:
        whole.update(b"%d:" % len(part))
        whole.update(part)
    return whole.digest()
