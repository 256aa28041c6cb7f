"""Which session has had exactly this conversation so far: how callers who send it all each time reach a warm agent.

A session is filed under what a caller will send with the next message: the hash of all that was said, and, where the
client names its conversations, that name with the hash of what the user said. A turn takes the session out, and files
it anew when it ended well: a conversation that branches off is told to another session.
"""

import hashlib
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence

import msgspec
from msgspec import Struct

from clinvoker.chat.conversation import Said

MOST = 4096
"""Sessions on file: some 500 bytes each."""

KEPT = 24 * 3600.0
"""Seconds that a session stays on file."""


class Line(Struct, frozen=True):
    """What makes conversations one another's: the hash of all that must be equal, which leaves out what was said.

    `named` is such a hash with the client's own id of the conversation in it, and empty without one. `latest`: a client
    that names the conversation may send the newest message alone.
    """

    scope: bytes
    named: bytes = b""
    latest: bool = False

    def keys(self, history: Sequence[Said]) -> tuple[bytes, ...]:
        """What a session is filed under that has had this conversation, the surest first."""
        keys: list[bytes] = []
        if self.named:
            asked = [said for said in history if said.role == "user"]
            keys.append(_chain(self.named, asked))
            if self.latest:
                keys.append(_hash([b"latest", self.named]))
        keys.append(_chain(self.scope, history))
        return tuple(keys)

    def wanted(self, history: Sequence[Said]) -> tuple[bytes, ...]:
        """What to look for the session under that can go on from this history."""
        if history:
            return self.keys(history)
        return self.keys(history)[1:2] if self.named and self.latest else ()


def scope_of(*parts: object) -> bytes:
    """One hash of all that must be equal."""
    return _hash([msgspec.json.encode(parts)])


class Lineage:
    """The file, bounded in number and age."""

    def __init__(
        self, most: int = MOST, kept: float = KEPT, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._most = most
        self._kept = kept
        self._clock = clock
        self._sessions: dict[bytes, str] = {}
        self._filed: OrderedDict[str, tuple[float, tuple[bytes, ...]]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._filed)

    def take(self, keys: Iterable[bytes]) -> str | None:
        """Return the session that is filed under the first of these, and take it out."""
        self._forget_old()
        session = next((self._sessions[key] for key in keys if key in self._sessions), None)
        if session is not None:
            self._remove(session)
        return session

    def file(self, session: str, keys: tuple[bytes, ...]) -> None:
        """File a session. Two that have had the very same conversation: the later one."""
        self._remove(session)
        self._filed[session] = self._clock(), keys
        self._sessions.update(dict.fromkeys(keys, session))
        if len(self._filed) > self._most:
            self._remove(next(iter(self._filed)))

    def _forget_old(self) -> None:
        while self._filed:
            session, (filed, _) = next(iter(self._filed.items()))
            if filed + self._kept > self._clock():
                return
            self._remove(session)

    def _remove(self, session: str) -> None:
        _, keys = self._filed.pop(session, (0.0, ()))
        for key in keys:
            if self._sessions.get(key) == session:
                del self._sessions[key]


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
