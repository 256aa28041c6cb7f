"""Idempotency keys in use: who sends the same request again, gets the run that the first one started."""

from collections.abc import Awaitable, Callable

import trio

from actors.errors import Code, Refusal
from actors.mailbox import Ref
from clinvoker.calls import Started


class Claim:
    """A key in use: its first sender holds it until there is a run, and the run until it has ended.

    After that, the store knows the run by its key.
    """

    def __init__(self, body_hash: bytes) -> None:
        self.body_hash = body_hash
        self.started: Started | None = None
        self.run: Ref | None = None
        self.decided = trio.Event()
        """Set once there is a run, or none came of it."""

    @property
    def holds(self) -> bool:
        """Whether its run is going, or yet to come."""
        return not self.decided.is_set() or (self.run is not None and self.run.alive)


class Claims:
    """All claims, by caller and key."""

    def __init__(self) -> None:
        self._claims: dict[tuple[str, str], Claim] = {}
        self._most = 1024

    async def start(
        self,
        place: tuple[str, str],
        body_hash: bytes,
        stored: Callable[[], Awaitable[Started | None]],
        start: Callable[[Claim], Awaitable[Started]],
    ) -> Started:
        """The run that is going under a key; else the one that is `stored` under it; else `start` one."""
        while (claim := self._claims.get(place)) is not None and claim.holds:
            check_same(body_hash, claim.body_hash)
            await claim.decided.wait()
            if claim.started is not None and claim.holds:
                return claim.started
        claim = self._claim(place, body_hash)
        try:
            return await stored() or await start(claim)
        finally:
            claim.decided.set()
            if claim.started is None:
                self.release(place, claim)

    def release(self, place: tuple[str, str], claim: Claim) -> None:
        """Let the key be used anew."""
        if self._claims.get(place) is claim:
            del self._claims[place]

    def _claim(self, place: tuple[str, str], body_hash: bytes) -> Claim:
        if len(self._claims) >= self._most:
            self._claims = {key: claim for key, claim in self._claims.items() if claim.holds}
            self._most = 2 * len(self._claims) + 1024
        claim = self._claims[place] = Claim(body_hash)
        return claim


def check_same(body_hash: bytes, other: bytes) -> None:
    """Raise `Refusal` if a key stands for another request."""
    if body_hash != other:
        message = "this Idempotency-Key was used for another request"
        raise Refusal(Code.IDEMPOTENCY, message, param="Idempotency-Key")
