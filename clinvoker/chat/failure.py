"""A turn that failed, as the answer to a request that nothing was written to yet."""

from actors.errors import Code, Refusal
from actors.messages import Failed, as_refusal

NOT_ACTED = frozenset({Code.BACKEND_RATE_LIMITED, Code.BACKEND_OVERLOADED, Code.BACKEND_UNREACHABLE})
"""The agent had no model to act on, unless it was heard of before."""


class ActedRefusal(Refusal):
    """A turn that failed after the agent may have acted: whoever sends it again may have it done twice."""


def refusal_of(failed: Failed, *, begun: bool, heard: bool) -> Refusal:
    """The failure as a refusal. `begun`: the agent took the turn; `heard`: it has said or done something since."""
    refusal = as_refusal(failed)
    if heard or (begun and failed.code not in NOT_ACTED):
        return ActedRefusal(
            refusal.code, refusal.message, param=refusal.param, retry_after=refusal.retry_after
        )
    return refusal
