"""A refusal names what the caller has sent: the header, or the model, from which a field of the turn was made."""

from collections.abc import Generator
from contextlib import contextmanager

from actors.errors import Refusal
from clinvoker.chat.asked import Wishes


@contextmanager
def as_sent(wishes: Wishes) -> Generator[None]:
    """What is refused in the block is refused of what these wishes were read from."""
    sent = {
        "workdir": ("x-clinvoker-workdir", wishes.workdir != ""),
        "session_id": ("x-clinvoker-session", wishes.session != ""),
        "approval_mode": ("x-clinvoker-approval-mode", wishes.approval_mode != "default"),
        "sandbox_mode": ("x-clinvoker-sandbox-mode", wishes.sandbox_mode != "default"),
        "backend": ("model", True),
    }
    try:
        yield
    except Refusal as refusal:
        name, was_sent = sent.get(refusal.param or "", ("", False))
        if not was_sent:
            raise
        message = f"{name}: {refusal.message}"
        raise Refusal(refusal.code, message, param=name, retry_after=refusal.retry_after) from None
