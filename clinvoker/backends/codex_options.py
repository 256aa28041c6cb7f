"""How the options of a conversation become the parameters of a codex thread, and what of them only a process can take."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from actors.driver import FlagValue
from actors.messages import ApprovalMode, Image, Options, Prompt, SandboxMode, ToolAnswer

_KEYS = ("model_reasoning_effort", "model_reasoning_summary", "model_verbosity")
"""What a request may configure: how the model thinks and talks, nothing of what the agent may do."""

_SETTING = FlagValue(
    f"key=word with one of the keys {', '.join(_KEYS)}",
    rf"""({"|".join(_KEYS)})=(["']?)([A-Za-z0-9_-]+)\2""",
)

CONFIG_FLAGS = {"-c": _SETTING, "--config": _SETTING}
"""Flags a request may pass: they set a value of the thread's own configuration."""

PREFIX = "client_"
"""Before the names of the client's tools, which may be those of codex's own."""

# `on-failure` is gone in 0.169.0. With `default` the user's own configuration stands.
_APPROVAL: Mapping[ApprovalMode, str] = {"auto": "on-request", "none": "never", "always": "untrusted"}

_SANDBOX: Mapping[SandboxMode, str] = {
    "read-only": "read-only",
    "workspace": "workspace-write",
    "full": "danger-full-access",
}


def thread_params(options: Options) -> dict[str, Any]:
    """Give the parameters common to `thread/start` and `thread/resume`."""
    params = {
        "cwd": options.workdir,
        "model": options.model,
        "developerInstructions": options.system_prompt,
        "approvalPolicy": _APPROVAL.get(options.approval_mode),
        "sandbox": _SANDBOX.get(options.sandbox_mode),
        "config": dict(_settings(options.extra)),
    }
    return {name: value for name, value in params.items() if value}


def dynamic_tools(options: Options) -> dict[str, Any]:
    """Give the client's tools as a new thread takes them; a resumed one has them still (0.169.0)."""
    if not options.tools:
        return {}
    tools = [
        {
            "type": "function",
            "name": PREFIX + tool.name,
            "description": tool.description,
            "inputSchema": {"type": "object", **tool.schema},
        }
        for tool in options.tools
    ]
    return {"dynamicTools": tools}


def tool_result(answer: ToolAnswer) -> dict[str, Any]:
    """Give what a tool of the client's gave."""
    pictures = [{"type": "inputImage", "imageUrl": _data_url(image)} for image in answer.images]
    content = [{"type": "inputText", "text": answer.output}, *pictures]
    return {"contentItems": content, "success": not answer.is_error}


def turn_params(thread_id: str, prompt: Prompt) -> dict[str, Any]:
    """Give the parameters of `turn/start`."""
    content = [{"type": "text", "text": prompt.text}, *(_picture(image) for image in prompt.images)]
    schema = {} if prompt.schema is None else {"outputSchema": prompt.schema}
    return {"threadId": thread_id, "input": content, **schema}


def process_flags(extra: tuple[str, ...]) -> tuple[str, ...]:
    """Give the flags that are no settings of a thread; there are none unless the user allows some."""
    return tuple(word for word in extra if word.partition("=")[0] not in CONFIG_FLAGS)


def _settings(extra: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    """Give the settings of a thread; whatever is none was refused before."""
    for word in extra:
        flag, _, setting = word.partition("=")
        if flag in CONFIG_FLAGS and (found := re.fullmatch(_SETTING.pattern, setting)):
            yield found[1], found[3]


def _picture(image: Image) -> dict[str, str]:
    return {"type": "image", "url": _data_url(image)}


def _data_url(image: Image) -> str:
    return f"data:{image.media_type};base64,{image.data}"
