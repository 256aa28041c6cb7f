"""What we say to claude in a turn: the prompt's blocks, and our answers when it asks leave (claude 2.1.330)."""

from typing import Any

from actors.messages import Image, Leave, Permission, Prompt
from clinvoker.backends.claude_wire import CanUseTool


def content(prompt: Prompt) -> list[dict[str, Any]]:
    """Return the blocks of a message: pictures first, for the last text is where the CLI looks for its commands."""
    return [*map(_image, prompt.images), {"type": "text", "text": _guarded(prompt.text)}]


def _guarded(text: str) -> str:
    """Keep a prompt from driving the CLI: behind a newline "/model opus" is text for the model, not a command."""
    return f"\n{text}" if text.startswith("/") else text


def _image(image: Image) -> dict[str, Any]:
    return {
        "type": "image",
        "source": {"type": "base64", "media_type": image.media_type, "data": image.data},
    }


def permission(request_id: str, asked: CanUseTool) -> Permission:
    """Return the question to put to whoever decides."""
    options: tuple[Leave, ...] = ("allow", "deny")
    if _session_rules(asked):
        options = ("allow", "allow_always", "deny")
    return Permission(request_id, asked.tool_name, asked.input, options)


def decision(asked: CanUseTool, leave: Leave) -> dict[str, Any]:
    """Return the answer in the protocol's words."""
    if leave == "deny":
        return {"behavior": "deny", "message": f"Permission to use {asked.tool_name} was denied."}
    allowed = {"behavior": "allow", "updatedInput": asked.input}
    return allowed if leave == "allow" else {**allowed, "updatedPermissions": _session_rules(asked)}


def _session_rules(asked: CanUseTool) -> list[dict[str, Any]]:
    """Return what the agent offers to remember, for this conversation alone: the user's settings are not ours."""
    return [
        {**rule, "destination": "session"}
        for rule in asked.permission_suggestions or ()
        if rule.get("type") in {"addRules", "addDirectories"}
    ]
