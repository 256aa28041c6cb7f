"""How the options of a conversation become the parameters of a codex thread, and what of them only a process can take."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from actors.errors import Code, Refusal
from actors.messages import ApprovalMode, Image, Options, Prompt, SandboxMode

CONFIG_FLAGS = ("-c", "--config")
"""Flags a request may pass: they set a value of the thread's own configuration, if it is one of `CONFIG_KEYS`."""

CONFIG_KEYS = frozenset({"model_reasoning_effort", "model_reasoning_summary", "model_verbosity"})
"""What a request may configure: how the model thinks and talks, nothing of what the agent may do."""

# `on-failure` is gone in 0.169.0. With `default` the user's own configuration stands.
_APPROVAL: Mapping[ApprovalMode, str] = {"auto": "on-request", "none": "never", "always": "untrusted"}

_SANDBOX: Mapping[SandboxMode, str] = {
    "read-only": "read-only",
    "workspace": "workspace-write",
    "full": "danger-full-access",
}

_SETTING = re.compile(r"""([a-z_]+)=(["']?)([A-Za-z0-9_-]+)\2""")


def thread_params(options: Options) -> dict[str, Any]:
    """Give the parameters common to `thread/start` and `thread/resume`. Raises `Refusal` for `extra`."""
    params = {
        "cwd": options.workdir,
        "model": options.model,
        "developerInstructions": options.system_prompt,
        "approvalPolicy": _APPROVAL.get(options.approval_mode),
        "sandbox": _SANDBOX.get(options.sandbox_mode),
        "config": dict(_settings(options.extra)),
    }
    return {name: value for name, value in params.items() if value}


def turn_params(thread_id: str, prompt: Prompt) -> dict[str, Any]:
    """Give the parameters of `turn/start`."""
    content = [{"type": "text", "text": prompt.text}, *(_picture(image) for image in prompt.images)]
    schema = {} if prompt.schema is None else {"outputSchema": prompt.schema}
    return {"threadId": thread_id, "input": content, **schema}


def process_flags(extra: tuple[str, ...]) -> tuple[str, ...]:
    """Give the flags that are no settings of a thread; there are none unless the user allows some."""
    return tuple(flag for flag, setting in _pairs(extra) if setting is None)


def _settings(extra: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    for flag, setting in _pairs(extra):
        if setting is None:
            continue
        found = _SETTING.fullmatch(setting)
        if found is None or found[1] not in CONFIG_KEYS:
            message = f"{flag} takes key=word with one of the keys {', '.join(sorted(CONFIG_KEYS))}"
            raise Refusal(Code.INVALID_REQUEST, message, param="extra")
        yield found[1], found[3]


def _pairs(extra: tuple[str, ...]) -> Iterator[tuple[str, str | None]]:
    """Pair each configuring flag with its setting, any other word with None."""
    words = iter(extra)
    for word in words:
        name, equals, value = word.partition("=")
        if name not in CONFIG_FLAGS:
            yield word, None
        else:
            yield name, value if equals else next(words, "")


def _picture(image: Image) -> dict[str, str]:
    return {"type": "image", "url": f"data:{image.media_type};base64,{image.data}"}
