"""Errors in OpenAI's shape, shared by its two APIs."""

from __future__ import annotations

from typing import Any

from tests.fake_model.reply import Failure

_ERRORS = {
    400: ("invalid_request_error", None, "fake bad request"),
    401: ("invalid_request_error", "invalid_api_key", "Incorrect API key provided: fake"),
    403: ("invalid_request_error", None, "fake permission error"),
    404: ("invalid_request_error", "model_not_found", "The model does not exist"),
    413: ("invalid_request_error", None, "Request too large"),
    429: ("rate_limit_exceeded", "rate_limit_exceeded", "fake rate limit"),
}
_CONTEXT = "Your input exceeds the context window of this model. Please adjust your input and try again."


def error(failure: Failure) -> dict[str, Any]:
    """Give the body of an HTTP error."""
    kind, code, text = _ERRORS.get(failure.status, ("server_error", None, "fake server error"))
    if failure.kind == "context":
        kind, code, text = "invalid_request_error", "context_length_exceeded", _CONTEXT
    return {"error": {"message": text, "type": kind, "param": None, "code": code}}
