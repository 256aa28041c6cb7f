"""Who calls: from the key that a request presents, or the address it comes from, to a caller and its limits."""

import hashlib
import hmac
import time
from collections.abc import Mapping

from msgspec import Struct

from actors.bucket import Rate
from actors.errors import Code, Refusal
from actors.limiter import CallerLimits
from clinvoker.config import KeySettings, Settings, moment


class Caller(Struct, frozen=True):
    """Who sends a request. `owner` is whose sessions and runs are theirs: empty without keys, else what stands for the key.

    `client` is whose limits count: the key's, or the address's.
    """

    owner: str
    client: str


class _Known(Struct, frozen=True):
    digest: bytes
    owner: str
    name: str
    key: KeySettings | None
    expires: float | None


class Callers:
    """The keys of the configuration, hashed: none of them is needed in the clear once a daemon runs."""

    def __init__(self, settings: Settings) -> None:
        self.needed = settings.keys_needed or bool(settings.keys or settings.api_keys)
        """Whether callers must present a key."""
        named = [(name, _digest(key), key) for name, key in settings.keys.items()]
        listed = [
            (f"key {number}", hashlib.sha256(key.reveal().encode()).digest(), None)
            for number, key in enumerate(settings.api_keys, 1)
        ]
        # A key with a name of its own comes first: it says what the key may.
        self._known = [_known(name, digest, key) for name, digest, key in (*named, *listed)]
        self._by_owner = {known.owner: known for known in reversed(self._known)}

    def identify(self, presented: str, address: str) -> Caller:
        """Return who presents this key. Raises `Refusal(UNAUTHORIZED)`."""
        if not self.needed:
            return Caller("", address)
        digest = hashlib.sha256(presented.encode(errors="replace")).digest()
        # All are compared, each in constant time: how long it takes tells nothing.
        found = [known for known in self._known if hmac.compare_digest(known.digest, digest)]
        if not found:
            raise Refusal(Code.UNAUTHORIZED, "a valid API key is needed")
        if found[0].expires is not None and found[0].expires <= time.time():
            raise Refusal(Code.UNAUTHORIZED, "the API key has expired")
        return Caller(found[0].owner, found[0].owner)

    def key_of(self, owner: str) -> KeySettings | None:
        """What an owner's key may; None if it is a key without a table of its own, or there are no keys."""
        known = self._by_owner.get(owner)
        return None if known is None else known.key

    def name_of(self, owner: str) -> str:
        """What people call an owner's key; empty without one."""
        known = self._by_owner.get(owner)
        return "" if known is None else known.name


def _known(name: str, digest: bytes, key: KeySettings | None) -> _Known:
    expires = None if key is None or key.expires is None else moment(key.expires).timestamp()
    return _Known(digest, _owner(digest), name, key, expires)


def _digest(key: KeySettings) -> bytes:
    return bytes.fromhex(key.hash.partition(":")[2])


def _owner(digest: bytes) -> str:
    """What stands for a key: the same wherever the key is configured, and after every restart."""
    return digest.hex()[:32]


def limits_of(settings: Settings) -> tuple[CallerLimits, Mapping[str, CallerLimits]]:
    """The limits of any caller, and of those that have some of their own."""
    server = settings.server
    rate = Rate(server.rate_limit_rps, server.rate_limit_burst) if server.rate_limit_enabled else None
    each = CallerLimits(server.max_concurrent_runs_per_caller or None, rate)
    return each, {
        _owner(_digest(key)): CallerLimits(key.max_concurrent or each.concurrent, _rate(key) or rate)
        for key in settings.keys.values()
    }


def _rate(key: KeySettings) -> Rate | None:
    if key.rate is None:
        return None
    return Rate(key.rate, key.burst or max(1, round(key.rate)))
