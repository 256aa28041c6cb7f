"""What a session was begun with, and a request that names it cannot have otherwise."""

from actors.messages import Options
from clinvoker.chat.asked import Asked
from clinvoker.policy import Policy


def otherwise(asked: Asked, options: Options, policy: Policy) -> str | None:
    """The field or header by which a request asks for something else; None if there is none.

    Raises `Refusal` for a directory that nobody may have.
    """
    wishes = asked.wishes
    workdir = policy.work_in(asked.caller, wishes.workdir) if wishes.workdir else ""
    differs = {
        "model": asked.choice.model not in {"", options.model},
        "tools": bool(asked.offered.tools) and asked.offered.tools != options.tools,
        "x-clinvoker-workdir": workdir not in {"", options.workdir},
        "x-clinvoker-approval-mode": wishes.approval_mode not in {"default", options.approval_mode},
        "x-clinvoker-sandbox-mode": wishes.sandbox_mode not in {"default", options.sandbox_mode},
    }
    return next((name for name, is_so in differs.items() if is_so), None)


def new_instructions(asked: Asked, options: Options) -> str:
    """The instructions of a request that its session was not begun with; empty if there are none."""
    return "" if asked.chat.system == options.system_prompt else asked.chat.system
