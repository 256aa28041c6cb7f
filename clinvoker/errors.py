"""The one table from an error code to an HTTP status and an error type, and an error as answers and events carry it."""

from msgspec import UNSET, Struct, UnsetType
from msgspec.structs import replace

from actors.errors import Code
from actors.messages import Failed

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


def typed(failed: Failed) -> Failed:
    """The failure with its type filled in, as events carry it."""
    return replace(failed, type=type_of(failed.code))


def body_of(failed: Failed) -> Body:
    """A failure as results carry it."""
    param = None if failed.param is UNSET else failed.param
    return Body(failed.code, failed.message, param, type_of(failed.code), failed.retry_after)
