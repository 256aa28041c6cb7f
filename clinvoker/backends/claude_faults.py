"""What claude's errors mean in our words (claude 2.1.330).

An API error comes as a `result` with `subtype: "success"` and `is_error: true`, its text as if it were an answer, its
HTTP status beside it; errors that never reached the API carry a word in the synthetic message before it, or only text.
"""

from msgspec import UNSET, UnsetType

from actors.errors import Code
from actors.messages import Failed
from clinvoker.backends.claude_wire import Result, Retry, Synthetic

PATIENCE_S = 10.0
"""A wait longer than this is the caller's to decide, not the agent's."""

_BY_STATUS = {
    401: Code.NOT_LOGGED_IN,
    403: Code.NOT_LOGGED_IN,
    404: Code.MODEL_NOT_FOUND,
    413: Code.CONTEXT_TOO_LONG,
    429: Code.BACKEND_RATE_LIMITED,
    503: Code.BACKEND_OVERLOADED,
    529: Code.BACKEND_OVERLOADED,
}
_BY_WORD = {
    "authentication_failed": Code.NOT_LOGGED_IN,
    "oauth_org_not_allowed": Code.NOT_LOGGED_IN,
    "model_not_found": Code.MODEL_NOT_FOUND,
    "rate_limit": Code.BACKEND_RATE_LIMITED,
    "overloaded": Code.BACKEND_OVERLOADED,
    "connection_failed": Code.BACKEND_UNREACHABLE,
}
_BY_TEXT = (
    (("prompt is too long", "context window", "context limit", "input is too long"), Code.CONTEXT_TOO_LONG),
    (("not logged in", "/login", "invalid api key"), Code.NOT_LOGGED_IN),
    (("issue with the selected model",), Code.MODEL_NOT_FOUND),
    (
        ("connection refused", "econnrefused", "unable to connect", "enotfound", "connection error"),
        Code.BACKEND_UNREACHABLE,
    ),
)


def failure(result: Result, synthetic: Synthetic, wait_s: float | UnsetType = UNSET) -> Failed:
    """Return what a turn that ended with an error failed of. `wait_s` is what a rate limit last had the agent wait."""
    text = result.result or "; ".join(result.errors or ()) or "the agent reported an error without words"
    code = _code(result, synthetic, text)
    return Failed(code, text, retry_after=wait_s if code is Code.BACKEND_RATE_LIMITED else UNSET)


def is_rate_limit(retry: Retry) -> bool:
    """Tell whether the wait is one that a rate limit asks for."""
    return _code_of(retry) is Code.BACKEND_RATE_LIMITED


def _code(result: Result, synthetic: Synthetic, text: str) -> Code:
    if result.stop_reason == "refusal":
        return Code.REFUSED
    if (result.terminal_reason or "").startswith("aborted"):
        return Code.CANCELLED
    told = text.lower()
    # Before the status: a context that is too long is a plain 400.
    for words, code in _BY_TEXT:
        if any(word in told for word in words):
            return code
    if result.api_error_status is not None:
        return _BY_STATUS.get(result.api_error_status, Code.BACKEND_ERROR)
    for word in (synthetic.api_error, synthetic.error):
        if word in _BY_WORD:
            return _BY_WORD[word]
    return Code.BACKEND_ERROR


def hopeless(retry: Retry) -> Failed | None:
    """Return why it is no use to wait for this retry, or None.

    A refused login may be mended by the one retry that follows the refresh of its token, not by the eight after that;
    and `Retry-After` is honoured for hours.
    """
    code = _code_of(retry)
    if code is Code.NOT_LOGGED_IN and retry.attempt > 1:
        return Failed(code, f"the model's provider refused the login ({retry.error_status or retry.error})")
    wait = retry.retry_delay_ms / 1000
    if wait <= PATIENCE_S:
        return None
    return Failed(
        code,
        f"the model's provider asks to wait {wait:.0f} s ({retry.error_status or retry.error})",
        retry_after=wait,
    )


def _code_of(retry: Retry) -> Code:
    return _BY_STATUS.get(retry.error_status or 0) or _BY_WORD.get(retry.error or "", Code.BACKEND_ERROR)
