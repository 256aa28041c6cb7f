"""Runs that are held while their client runs its tools: where an answer ends, and how the next request goes on."""

from collections.abc import Sequence
from contextlib import suppress

import trio

from actors.calls import Abandon, AnswerCalls, Deliver, run_of_call
from actors.errors import ActorDied, Code, Refusal
from actors.mailbox import Ref
from actors.messages import Entry, Event, Message, Options, ToolAnswer, ToolUse
from actors.run import Identify
from clinvoker.chat.failure import as_answered
from clinvoker.service import Service, Started

TOOL_USE = "tool_use"
"""Why an answer ended that asks the client to run its tools."""


class Part:
    """What of a run is one answer: from entry `after` on, up to calls that wait for the client, or to the end."""

    def __init__(self, after: int = 0) -> None:
        self._parting = after > 0
        self.calls: list[str] = []
        """The calls in it that wait for the client."""
        self.upto = 0
        """The last of these; the answer ends there. 0 before."""

    def take(self, page: Sequence[Entry]) -> list[Event]:
        """The events of a page that are part of it."""
        events: list[Event] = []
        for entry in page:
            event = as_answered(entry.content)
            if self._parting and isinstance(event, Message):
                # An agent's second text stands apart from its first, which was another answer here.
                event = Message(event.text.lstrip("\n"))
                self._parting = not event.text
                if self._parting:
                    continue
            events.append(event)
            if isinstance(event, ToolUse) and event.client:
                self.calls.append(event.id)
                if event.client == 1:
                    self.upto = entry.seq
                    break
        return events


async def hold(service: Service, run_id: str, caller: str, calls: tuple[str, ...], upto: int) -> None:
    """Have the run wait for the client, which is told of these calls, without a reader."""
    run = await service.live_run(run_id, caller)
    with suppress(ActorDied):  # the next request finds out, and begins anew
        if run is not None:
            await run.ask(Deliver(calls, upto))


async def give_up(service: Service, run_id: str, caller: str, calls: tuple[str, ...]) -> None:
    """End the run if it waits for any of these calls: its client went on without their results."""
    run = await service.live_run(run_id, caller)
    with suppress(ActorDied):
        if run is not None:
            await run.ask(Abandon(calls))


async def go_on(
    service: Service, caller: str, backend: str, answers: tuple[ToolAnswer, ...], *, detach: bool = False
) -> Started | None:
    """Answer the calls that a run of the caller's waits for, which then goes on; None if none waits for these.

    A run that waits for more, or is another backend's, has lost its client: it ends.
    """
    runs = {run_of_call(answer.id) for answer in answers}
    run_id = runs.pop() if len(runs) == 1 else None
    run = await service.live_run(run_id, caller) if run_id is not None else None
    if run_id is None or run is None:
        return None
    try:
        return await _answer(run, backend, AnswerCalls(answers, detach))
    except ActorDied:
        return None
    except Refusal as refusal:
        if refusal.code is not Code.NOT_FOUND:
            await service.cancel(run_id, caller)
        return None


async def _answer(run: Ref, backend: str, given: AnswerCalls) -> Started:
    identity = await run.ask(Identify())
    if identity.backend != backend:
        raise Refusal(Code.INVALID_REQUEST, "the calls are another backend's", param="model")
    after = await run.ask(given)
    return Started(identity, Options(), trio.current_time(), after)
