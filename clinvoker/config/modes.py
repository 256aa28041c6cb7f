"""Which modes are looser than others. `default` is the agent's own policy, whatever that is."""

from typing import Final, TypeVar

from .settings import ApprovalMode, SandboxMode, ServerSettings

APPROVAL_MODES: Final[tuple[ApprovalMode, ...]] = ("none", "default", "always", "auto")
SANDBOX_MODES: Final[tuple[SandboxMode, ...]] = ("read-only", "workspace", "default", "full")
"""From the strictest to the loosest."""

M = TypeVar("M", ApprovalMode, SandboxMode)


def is_looser(mode: M, most: M, order: tuple[M, ...]) -> bool:
    """Whether somebody asks for more than `most`; `default` asks for nothing."""
    return mode != "default" and order.index(mode) > order.index(most)


def bounded_approval(mode: ApprovalMode, server: ServerSettings) -> ApprovalMode:
    """What holds where nobody asks for a mode: never more than the bound."""
    return _stricter(mode, server.max_approval_mode, APPROVAL_MODES)


def bounded_sandbox(mode: SandboxMode, server: ServerSettings) -> SandboxMode:
    """What holds where nobody asks for a mode: never more than the bound."""
    return _stricter(mode, server.max_sandbox_mode, SANDBOX_MODES)


def _stricter(one: M, other: M, order: tuple[M, ...]) -> M:
    return one if order.index(one) <= order.index(other) else other
