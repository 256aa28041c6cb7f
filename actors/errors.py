"""The one error taxonomy: every way a request, a turn or a backend can fail, named once.

Whoever renders an error (HTTP status, event, log line) looks the code up; nobody invents a string.
"""

from collections.abc import Generator
from contextlib import contextmanager
from enum import StrEnum


class Code(StrEnum):
    """What went wrong, in a word that a program can switch on."""

    # The caller's request.
    INVALID_REQUEST = "invalid_request"
    UNSUPPORTED = "unsupported_parameter"
    UNAUTHORIZED = "unauthorized"
    FORBIDDEN = "forbidden"
    NOT_FOUND = "not_found"
    METHOD_NOT_ALLOWED = "method_not_allowed"
    SESSION_BUSY = "session_busy"
    IDEMPOTENCY = "idempotency_conflict"
    TOO_LARGE = "request_too_large"
    UNSUPPORTED_MEDIA = "unsupported_media_type"
    RATE_LIMITED = "rate_limit_exceeded"

    # This daemon.
    BUSY = "server_busy"
    DRAINING = "server_draining"
    INTERNAL = "internal_error"
    TIMEOUT = "timeout"
    CANCELLED = "cancelled"
    READER_TOO_SLOW = "reader_too_slow"
    STORAGE = "storage_error"
    INTERRUPTED = "interrupted"

    # The agent, or the model behind it.
    BACKEND_UNAVAILABLE = "backend_unavailable"
    NOT_INSTALLED = "backend_not_installed"
    NOT_LOGGED_IN = "backend_not_logged_in"
    BACKEND_RATE_LIMITED = "backend_rate_limited"
    BACKEND_OVERLOADED = "backend_overloaded"
    BACKEND_UNREACHABLE = "backend_unreachable"
    CONTEXT_TOO_LONG = "context_length_exceeded"
    MODEL_NOT_FOUND = "model_not_found"
    REFUSED = "refused"
    BACKEND_ERROR = "backend_error"
    CRASHED = "backend_crashed"
    PROTOCOL = "backend_protocol_error"


class Refusal(Exception):  # noqa: N818 - a no is an answer, not an error: the actor that gives it lives on
    """An expected no, meant for the caller: answered, never a crash.

    `param` names the field at fault (`tasks[3].workdir`), `retry_after` is in seconds.
    """

    def __init__(
        self, code: Code, message: str, *, param: str | None = None, retry_after: float | None = None
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.param = param
        self.retry_after = retry_after


@contextmanager
def within(place: str) -> Generator[None]:
    """What is refused in the block is refused of this part of the request: `workdir` becomes `tasks[3].workdir`."""
    try:
        yield
    except Refusal as refusal:
        param = f"{place}.{refusal.param}" if refusal.param else place
        named = refusal.param and refusal.message.startswith(refusal.param)
        message = f"{place}.{refusal.message}" if named else f"{param}: {refusal.message}"
        raise Refusal(refusal.code, message, param=param, retry_after=refusal.retry_after) from None


class ActorDied(Exception):  # noqa: N818 - the field's word (pykka, OTP) for it
    """The actor ended, or crashed, before it answered."""
