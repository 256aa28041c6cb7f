"""A turn that failed, as the answer to a request that nothing was written to yet."""

from typing import TypeGuard

from actors.errors import Code, Refusal
from actors.messages import Complete, Event, Failed, as_refusal

NOT_ACTED = frozenset({Code.BACKEND_RATE_LIMITED, Code.BACKEND_OVERLOADED, Code.BACKEND_UNREACHABLE})
"""The agent had no model to act on, unless it was heard of before."""


class ActedRefusal(Refusal):
    """A turn that failed after the agent may have acted: whoever sends it again may have it done twice."""


class Refused(Complete, frozen=True):
    """The model would not answer: for the APIs an end like any other, not an error."""

    message: str = ""


def as_answered(event: Event) -> Event:
    """The event as part of an answer, in which a refusal of the model's is no failure."""
    if isinstance(event, Failed) and event.code is Code.REFUSED:
        return Refused("refusal", message=event.message)
    return event


def has_failed(event: Event) -> TypeGuard[Failed]:
    """Whether there is no answer: the turn failed, and not by a refusal of the model's."""
    return isinstance(as_answered(event), Failed)


def refusal_of(failed: Failed, *, begun: bool, heard: bool) -> Refusal:
    """The failure as a refusal. `begun`: the agent took the turn; `heard`: it has said or done something since."""
    refusal = as_refusal(failed)
    if heard or (begun and failed.code not in NOT_ACTED):
        return ActedRefusal(
            refusal.code, refusal.message, param=refusal.param, retry_after=refusal.retry_after
        )
    return refusal
