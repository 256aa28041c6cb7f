"""What runs do: a turn of a session, recorded event by event."""

import math
from collections.abc import Callable
from contextlib import closing
from typing import Literal

import trio

from actors.asks import Announce, Approve
from actors.errors import ActorDied, Code, Refusal
from actors.mailbox import Ref
from actors.messages import ApprovalMode, Event, Leave, Permission, Prompt, Start
from actors.recorder import Recorder
from actors.session import Begin

Parallel = Literal["none", "one", "many"]
"""How many of its tools' calls the client takes at a time."""


class SessionEnded(ActorDied):
    """The session's actor ended before it took the turn: nothing has happened, another one can be asked."""


async def take_turn(
    recorder: Recorder,
    session: Ref,
    prompt: Prompt,
    mode: ApprovalMode,
    *,
    queue: bool = False,
    calls: Parallel = "none",
    meter: Callable[[list[Event]], None] = lambda _: None,
) -> None:
    """Run one turn of a session and record its events, each batch of which `meter` is told, and may refuse to go on.

    Raises `Refusal`: what the session or its backend refuses, and `TIMEOUT` when the agent says nothing for too long;
    `SessionEnded`.
    """
    limits = recorder.limits
    if calls == "one":
        recorder.calls.one_at_a_time()
    # Nobody says anything to a turn that waits for others.
    patience = math.inf if queue else limits.first_event
    try:
        client = None if calls == "none" else recorder.calls.put
        stream = await session.stream(Begin(prompt, _decider(recorder, mode), queue, client))
    except ActorDied as death:
        raise SessionEnded(str(death)) from None
    with closing(stream) as batches:
        with trio.CancelScope() as watch:
            while True:
                # While a permission is open it is the caller who says nothing, and that has a bound of its own.
                asking = limits.permission if recorder.permissions else 0.0
                watch.deadline = trio.current_time() + patience + asking
                if recorder.calls.waiting:
                    watch.deadline = math.inf  # that has a bound of its own, too
                events = await anext(batches, None)
                if events is None:
                    return
                recorder.record(events)
                meter(events)
                if not all(isinstance(event, Start) for event in events):
                    patience = limits.idle
                elif math.isinf(patience):
                    patience = limits.first_event
                if not recorder.log.has_room:
                    watch.deadline = math.inf  # it is the disk that is slow
                    await recorder.log.wait_room()
        raise Refusal(Code.TIMEOUT, f"the agent said nothing for {patience:g} s")


def _decider(recorder: Recorder, mode: ApprovalMode) -> Approve:
    """Who answers the agent's questions: nothing is ever approved by silence."""
    if mode == "always":
        return recorder.ask_caller

    async def decide(permission: Permission, announce: Announce) -> Leave:
        del announce
        return "allow" if mode == "auto" and "allow" in permission.options else "deny"

    return decide
