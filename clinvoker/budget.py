"""Daily token budgets: what each key has used today (UTC), kept in the store, and the end of a run that passes it.

While a run goes on its tokens are estimated from what the agent says; its end brings the agent's own count.
"""

import math
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager

import trio
from msgspec import Struct

from actors.errors import Code, Refusal
from actors.messages import Complete, Event, Message, Thinking
from actors.run import new_id
from clinvoker.chat.tokens import estimate
from clinvoker.logs import get_logger
from clinvoker.store import AddSpending, StoreClient

DAY = 86_400

PATIENCE = 5.0
"""Seconds that a run's end waits for what it used to be stored."""

Meter = Callable[[Sequence[Event]], None]
"""Told of a turn's events as they come. Raises `Refusal` once the budget is passed."""

_log = get_logger("clinvoker")


class Budget(Struct, frozen=True):
    """How a key stands today: `limit` and `remaining` in tokens, `reset` in seconds until the next day."""

    limit: int
    remaining: int
    reset: float


class Budgets:
    """What has been used today. In memory, with the store behind it: asking costs nothing."""

    def __init__(self, store: StoreClient, clock: Callable[[], float] = time.time) -> None:
        self._store = store
        self._clock = clock
        self._day = -1
        self._spent: dict[str, int] = {}

    def look(self, owner: str, daily: int) -> Budget:
        """How an owner stands."""
        now = self._clock()
        spent = self._spent.get(owner, 0) if self._day == now // DAY else 0
        return Budget(daily, max(daily - spent, 0), DAY - now % DAY)

    async def load(self) -> None:
        """Take up what was used before the daemon's start. Raises `Refusal`."""
        if self._day < 0:
            today = int(self._clock() // DAY)
            spent = await self._store.spending(today)
            if self._day < 0:
                self._day, self._spent = today, spent

    @asynccontextmanager
    async def metering(self, owner: str, daily: int | None, prompt: str) -> AsyncGenerator[Meter]:
        """Count what a turn uses while the block runs. Raises `Refusal(RATE_LIMITED)` if there is nothing left to use."""
        if daily is None:
            yield _count_nothing
            return
        await self.load()
        self._check(owner, daily)
        turn = _Turn(estimate(prompt))
        self._add(owner, turn.tokens)

        def meter(events: Sequence[Event]) -> None:
            self._add(owner, turn.count(events))
            if not turn.complete:
                self._check(owner, daily)

        try:
            yield meter
        finally:
            await self._keep(owner, turn.tokens)

    def _check(self, owner: str, daily: int) -> None:
        budget = self.look(owner, daily)
        if not budget.remaining:
            message = f"the key's {daily} tokens of today are used up"
            raise Refusal(Code.RATE_LIMITED, message, retry_after=math.ceil(budget.reset))

    def _add(self, owner: str, tokens: int) -> None:
        today = int(self._clock() // DAY)
        if today != self._day:
            self._day, self._spent = today, {}
        self._spent[owner] = self._spent.get(owner, 0) + tokens

    async def _keep(self, owner: str, tokens: int) -> None:
        """Store what a turn used, however it ended."""
        with trio.CancelScope(shield=True, deadline=trio.current_time() + PATIENCE) as scope:
            try:
                await self._store.write(AddSpending(new_id("use"), owner, int(self._clock() // DAY), tokens))
            except Refusal as refusal:
                _log.error("a turn's tokens were not stored", problem=refusal.message)
        if scope.cancelled_caught:
            _log.error("a turn's tokens were not stored", problem="the store gives no answer")


class _Turn:
    """The tokens of one turn: estimated, until the agent tells."""

    def __init__(self, tokens: int) -> None:
        self.tokens = tokens
        self.complete = False

    def count(self, events: Sequence[Event]) -> int:
        """Return how many tokens these events add to what was counted before; fewer than none, if it was too many."""
        before = self.tokens
        for event in events:
            match event:
                case Message(text=text) | Thinking(text=text):
                    self.tokens += estimate(text)
                case Complete(token_usage=usage):
                    self.complete = True
                    told = usage.input_tokens + usage.output_tokens
                    self.tokens = told or self.tokens
                case _:
                    pass
        return self.tokens - before


def _count_nothing(events: Sequence[Event]) -> None:
    """The meter of a turn that nothing bounds."""
