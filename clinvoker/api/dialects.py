"""An error's body in each API's own words; the path says which API was asked."""

from collections.abc import Callable
from typing import Any

from msgspec import Struct

from actors.errors import Code

OPENAI = "/openai"
ANTHROPIC = "/anthropic"


class Fault(Struct, frozen=True):
    """An error, before it is written. `type` is the native one."""

    status: int
    code: str
    type: str
    message: str
    param: str | None = None


def error_body(fault: Fault, path: str, request_id: str) -> tuple[int, dict[str, Any]]:
    """Return the status and the body of an error, for whoever asked for that path."""
    for prefix, write in _DIALECTS.items():
        if path == prefix or path.startswith(prefix + "/"):
            return write(fault, request_id)
    error = {"code": fault.code, "message": fault.message, "param": fault.param, "type": fault.type}
    return fault.status, {"error": error}


def openai_error(fault: Fault) -> dict[str, Any]:
    """The inside of an OpenAI error."""
    kind, code = _OPENAI.get(fault.code, (None, fault.code))
    if kind is None:
        kind = "server_error" if fault.status >= _SERVER else "invalid_request_error"
    message = fault.message
    if fault.code == Code.CONTEXT_TOO_LONG and _TOO_LONG not in message:
        message = f"{_TOO_LONG}: {message}"  # litellm knows it by these words
    return {"message": message, "type": kind, "param": fault.param, "code": code}


def anthropic_error(fault: Fault) -> tuple[int, dict[str, Any]]:
    """The status and the inside of an Anthropic error."""
    if fault.type == "overloaded_error":
        return 529, {"type": "overloaded_error", "message": fault.message}
    kind = _ANTHROPIC.get(fault.status) or (
        "api_error" if fault.status >= _SERVER else "invalid_request_error"
    )
    message = fault.message
    if fault.code == Code.CONTEXT_TOO_LONG and _PROMPT_TOO_LONG not in message.lower():
        message = (
            f"{_PROMPT_TOO_LONG}: {message}"  # Claude Code knows it by these words, and shortens its history
        )
    return fault.status, {"type": kind, "message": message}


def _openai(fault: Fault, request_id: str) -> tuple[int, dict[str, Any]]:
    del request_id
    return fault.status, {"error": openai_error(fault)}


def _anthropic(fault: Fault, request_id: str) -> tuple[int, dict[str, Any]]:
    status, error = anthropic_error(fault)
    return status, {"type": "error", "error": error, "request_id": request_id}


_SERVER = 500
_PROMPT_TOO_LONG = "prompt is too long"
_TOO_LONG = "input tokens exceed the configured limit"
_DIALECTS: dict[str, Callable[[Fault, str], tuple[int, dict[str, Any]]]] = {
    OPENAI: _openai,
    ANTHROPIC: _anthropic,
}
_OPENAI: dict[str, tuple[str, str]] = {
    Code.UNAUTHORIZED: ("invalid_request_error", "invalid_api_key"),
    Code.RATE_LIMITED: ("rate_limit_error", "rate_limit_exceeded"),
    Code.BACKEND_RATE_LIMITED: ("rate_limit_error", "rate_limit_exceeded"),
}
_ANTHROPIC = {
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    408: "timeout_error",
    409: "conflict_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
}
