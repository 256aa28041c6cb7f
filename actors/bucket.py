"""Token buckets, one per caller: how many requests each may make now.

Kept as one number per caller, the time at which its bucket is full again (the generic cell rate algorithm, ITU-T I.371),
so that nothing has to be refilled, and a bucket that is full need not be remembered.
"""

import math

from msgspec import Struct


class Rate(Struct, frozen=True):
    """A bucket of `burst` tokens that `per_second` tokens are put into each second."""

    per_second: float
    burst: int


class Standing(Struct, frozen=True):
    """How a caller stands: `limit` and `remaining` in requests, `reset` in seconds until the bucket is full.

    `retry_after` is None for a request that may be made, else the seconds until it may.
    """

    limit: int
    remaining: int
    reset: float
    retry_after: float | None = None


class Buckets:
    """The buckets of all callers. Times are seconds on a clock that never goes back."""

    def __init__(self) -> None:
        self._full_at: dict[str, float] = {}
        self._sweep_at = 1024

    def __len__(self) -> int:
        """Return how many buckets are remembered."""
        return len(self._full_at)

    def take(self, caller: str, rate: Rate, now: float) -> Standing:
        """Take one token, if there is one."""
        each = 1 / rate.per_second
        room = rate.burst * each
        debt = max(self._full_at.get(caller, now) - now, 0.0)
        # What rounding takes from a token that is just about there is given back.
        over = debt + each - room
        if over > each * 1e-6:
            return Standing(rate.burst, 0, debt, over)
        self._full_at[caller] = now + debt + each
        if len(self._full_at) > self._sweep_at:
            self._sweep(now)
        return Standing(rate.burst, _whole((room - debt - each) / each), debt + each)

    def _sweep(self, now: float) -> None:
        self._full_at = {caller: at for caller, at in self._full_at.items() if at > now}
        self._sweep_at = 2 * len(self._full_at) + 1024


def _whole(tokens: float) -> int:
    return max(math.floor(tokens + 1e-6), 0)
