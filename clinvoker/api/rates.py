"""How often a caller may ask: each request is counted, and each answer says how the caller stands, in each API's words.

Headers of OpenAI: platform.openai.com/docs/guides/rate-limits; of Anthropic: platform.claude.com/docs/en/api/rate-limits.
"""

import math
import time
from datetime import UTC, datetime

from actors.bucket import Standing
from actors.errors import ActorDied, Code, Refusal
from actors.limiter import Count, Limits
from actors.mailbox import Ref
from clinvoker.api.dialects import ANTHROPIC, OPENAI
from clinvoker.budget import Budget, Budgets
from clinvoker.callers import Caller, limits_of
from clinvoker.config import Settings

Headers = list[tuple[bytes, bytes]]

LIMITED = ("/api/", f"{OPENAI}/", f"{ANTHROPIC}/")
"""Paths that are counted: the three surfaces, not /health and /metrics."""


class Rates:
    """Counts requests, and writes the headers of their answers."""

    def __init__(self, limiter: Ref, budgets: Budgets, settings: Settings) -> None:
        self._limiter = limiter
        self._budgets = budgets
        self.reconfigure(settings)

    def reconfigure(self, settings: Settings) -> None:
        """Take settings for the requests to come."""
        each, own = limits_of(settings)
        self._limits = Limits(0, 0, each=each, own=own)
        self._full = Standing(settings.server.rate_limit_burst, settings.server.rate_limit_burst, 0.0)

    async def count(self, client: str) -> Standing:
        """Count a request. Raises `Refusal` if it could not be counted: then it may not be made either.

        Who has no limit is not counted, and stands as if nothing had been asked.
        """
        if self._limits.of(client).rate is None:
            return self._full
        try:
            return await self._limiter.ask(Count(client))
        except ActorDied:
            raise Refusal(Code.BUSY, "the limiter is being restarted", retry_after=1.0) from None

    def headers(self, path: str, standing: Standing, caller: Caller | None, daily: int | None) -> Headers:
        """What an answer says of how the caller stands."""
        now = time.time()
        told = [
            (b"x-ratelimit-limit", b"%d" % standing.limit),
            (b"x-ratelimit-remaining", b"%d" % standing.remaining),
            (b"x-ratelimit-reset", b"%d" % math.ceil(now + standing.reset)),
        ]
        budget = None if caller is None or daily is None else self._budgets.look(caller.owner, daily)
        if path.startswith(f"{OPENAI}/"):
            told += _openai(b"requests", standing)
            told += _openai(b"tokens", budget) if budget is not None else []
        elif path.startswith(f"{ANTHROPIC}/"):
            told += _anthropic(b"requests", standing, now)
            told += _anthropic(b"tokens", budget, now) if budget is not None else []
        return told


def check(standing: Standing) -> None:
    """Raise `Refusal` for a request that may not be made yet."""
    if standing.retry_after is not None:
        message = f"rate limit exceeded: try again in {standing.retry_after:.3f}s"
        raise Refusal(Code.RATE_LIMITED, message, retry_after=standing.retry_after)


def go_duration(seconds: float) -> str:
    """Write a duration as Go does, to the millisecond: 0s, 12ms, 1.5s, 6m0s, 1h0m0s."""
    milliseconds = math.ceil(seconds * 1000)
    if 0 < milliseconds < 1000:  # noqa: PLR2004 - a second
        return f"{milliseconds}ms"
    minutes, rest = divmod(milliseconds, 60_000)
    hours, minutes = divmod(minutes, 60)
    told = f"{rest / 1000:g}s"
    if hours:
        return f"{hours}h{minutes}m{told}"
    return f"{minutes}m{told}" if minutes else told


def _openai(what: bytes, standing: Standing | Budget) -> Headers:
    return [
        (b"x-ratelimit-limit-" + what, b"%d" % standing.limit),
        (b"x-ratelimit-remaining-" + what, b"%d" % standing.remaining),
        (b"x-ratelimit-reset-" + what, go_duration(standing.reset).encode()),
    ]


def _anthropic(what: bytes, standing: Standing | Budget, now: float) -> Headers:
    at = datetime.fromtimestamp(math.ceil(now + standing.reset), UTC)
    return [
        (b"anthropic-ratelimit-" + what + b"-limit", b"%d" % standing.limit),
        (b"anthropic-ratelimit-" + what + b"-remaining", b"%d" % standing.remaining),
        (b"anthropic-ratelimit-" + what + b"-reset", at.strftime("%Y-%m-%dT%H:%M:%SZ").encode()),
    ]
