"""The one table from an error code to an HTTP status and an error type; renderers write it in each API's dialect."""

import math

from msgspec import UNSET, Struct, UnsetType, json
from msgspec.structs import replace

from actors.errors import Code, Refusal
from actors.messages import Failed
from clinvoker.api.dialects import Fault, error_body
from clinvoker.chat.failure import ActedRefusal

TABLE: dict[Code, tuple[int, str]] = {
    Code.INVALID_REQUEST: (400, "invalid_request_error"),
    Code.UNSUPPORTED: (400, "invalid_request_error"),
    Code.UNAUTHORIZED: (401, "authentication_error"),
    Code.FORBIDDEN: (403, "permission_error"),
    Code.NOT_FOUND: (404, "not_found_error"),
    Code.METHOD_NOT_ALLOWED: (405, "invalid_request_error"),
    Code.SESSION_BUSY: (409, "conflict_error"),
    Code.IDEMPOTENCY: (409, "conflict_error"),
    Code.TOO_LARGE: (413, "invalid_request_error"),
    Code.UNSUPPORTED_MEDIA: (415, "invalid_request_error"),
    Code.RATE_LIMITED: (429, "rate_limit_error"),
    Code.BUSY: (503, "overloaded_error"),
    Code.DRAINING: (503, "overloaded_error"),
    Code.INTERNAL: (500, "api_error"),
    Code.TIMEOUT: (504, "timeout_error"),
    Code.CANCELLED: (409, "api_error"),
    Code.READER_TOO_SLOW: (409, "api_error"),
    Code.STORAGE: (500, "api_error"),
    Code.INTERRUPTED: (500, "api_error"),
    Code.BACKEND_UNAVAILABLE: (503, "backend_error"),
    Code.NOT_INSTALLED: (503, "backend_error"),
    Code.NOT_LOGGED_IN: (503, "backend_error"),
    Code.BACKEND_RATE_LIMITED: (429, "rate_limit_error"),
    Code.BACKEND_OVERLOADED: (503, "overloaded_error"),
    Code.BACKEND_UNREACHABLE: (502, "backend_error"),
    Code.CONTEXT_TOO_LONG: (400, "invalid_request_error"),
    Code.MODEL_NOT_FOUND: (404, "not_found_error"),
    Code.REFUSED: (400, "invalid_request_error"),
    Code.BACKEND_ERROR: (502, "backend_error"),
    Code.CRASHED: (502, "backend_error"),
    Code.PROTOCOL: (502, "backend_error"),
}


STAYS = frozenset({Code.NOT_INSTALLED, Code.NOT_LOGGED_IN})
"""What a retry does not help: somebody has to do something. The SDKs would try a 503 again."""


LONG = 60.0
"""Seconds of waiting that a client is told of instead of spending them: anthropic's SDKs sleep as long as is said,
openai-python 1.x takes no notice and tries three times in vain (clients.md, 1.1)."""


class Body(Struct, frozen=True):
    """The inside of an error answer. `retry_after` (seconds) is for failed turns; a refusal has a header for it."""

    code: str
    message: str
    param: str | None
    type: str
    retry_after: float | UnsetType = UNSET


def status_of(code: Code) -> int:
    """The HTTP status of a code."""
    return TABLE[code][0]


def type_of(code: Code) -> str:
    """The error type of a code."""
    return TABLE[code][1]


def fault_of(code: Code, message: str, param: str | None = None) -> Fault:
    """What a dialect writes of an error."""
    status, kind = TABLE[code]
    return Fault(status, code, kind, message, param)


def render(refusal: Refusal, path: str = "", request_id: str = "") -> tuple[int, bytes, dict[str, str]]:
    """Return status, JSON body and headers for a refusal, in the words of the API whose path was asked for."""
    headers = {"content-type": "application/json"}
    if refusal.code is Code.UNAUTHORIZED:
        headers["www-authenticate"] = "Bearer"
    if refusal.retry_after is not None:
        # Whole seconds, of which fewer would be refused again; the official SDKs know the other one, which is exact.
        headers["retry-after"] = str(max(1, math.ceil(refusal.retry_after)))
        headers["retry-after-ms"] = str(max(1, math.ceil(refusal.retry_after * 1000)))
    if isinstance(refusal, ActedRefusal) or refusal.code in STAYS or (refusal.retry_after or 0) > LONG:
        headers["x-should-retry"] = "false"
    status, body = error_body(fault_of(refusal.code, refusal.message, refusal.param), path, request_id)
    return status, json.encode(body), headers


def typed(failed: Failed) -> Failed:
    """The failure with its type filled in, as events carry it."""
    return replace(failed, type=type_of(failed.code))
