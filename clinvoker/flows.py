"""What runs do: plain functions over sessions, recorded event by event."""

from contextlib import closing

import trio
from msgspec import UNSET, UnsetType

from actors.errors import Code, Refusal
from actors.mailbox import Ref
from actors.messages import ApprovalMode, Leave, Permission, Prompt, Start
from actors.run import Recorder
from actors.runner import Announce, Approve
from actors.session import Begin


async def take_turn(
    recorder: Recorder, session: Ref, prompt: Prompt, mode: ApprovalMode, task: int | UnsetType = UNSET
) -> None:
    """Run one turn of a session and record its events.

    Raises `Refusal`: what the session or its backend refuses, and `TIMEOUT` when the agent says nothing for too long.
    """
    patience = recorder.limits.first_event
    with closing(await session.stream(Begin(prompt, _decider(recorder, mode)))) as batches:
        while True:
            try:
                with trio.fail_after(patience):
                    events = await anext(batches, None)
            except trio.TooSlowError:
                if recorder.permissions:
                    continue  # it is the caller who says nothing, and that has a bound of its own
                raise Refusal(Code.TIMEOUT, f"the agent said nothing for {patience:g} s") from None
            if events is None:
                return
            recorder.record(events, task)
            if not all(isinstance(event, Start) for event in events):
                patience = recorder.limits.idle


def _decider(recorder: Recorder, mode: ApprovalMode) -> Approve:
    """Who answers the agent's questions: nothing is ever approved by silence."""
    if mode == "always":
        return recorder.ask_caller

    async def decide(permission: Permission, announce: Announce) -> Leave:
        del announce
        return "allow" if mode == "auto" and "allow" in permission.options else "deny"

    return decide
