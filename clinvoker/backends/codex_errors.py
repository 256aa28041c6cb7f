"""What codex's troubles mean: its words, HTTP statuses and messages, mapped to our taxonomy (observed with 0.169.0)."""

import re
from collections.abc import Mapping
from typing import cast

import msgspec
from msgspec import UNSET, Struct, UnsetType

from actors.errors import Code, Refusal
from actors.messages import Failed
from clinvoker.backends.codex_wire import Trouble
from clinvoker.backends.jsonrpc import RpcError

_BY_WORD: Mapping[str, Code] = {
    "contextWindowExceeded": Code.CONTEXT_TOO_LONG,
    "usageLimitExceeded": Code.BACKEND_RATE_LIMITED,
    "rateLimitExceeded": Code.BACKEND_RATE_LIMITED,
    "sessionBudgetExceeded": Code.BACKEND_RATE_LIMITED,
    "serverOverloaded": Code.BACKEND_OVERLOADED,
    "flexUnavailable": Code.BACKEND_OVERLOADED,
    "policyCapacityUnavailable": Code.BACKEND_OVERLOADED,
    "modelNotFound": Code.MODEL_NOT_FOUND,
    "unauthorized": Code.NOT_LOGGED_IN,
    "cyberPolicy": Code.REFUSED,
    "misalignmentPolicyViolation": Code.REFUSED,
}

_BY_STATUS: Mapping[int, Code] = {
    401: Code.NOT_LOGGED_IN,
    403: Code.NOT_LOGGED_IN,
    413: Code.CONTEXT_TOO_LONG,
    429: Code.BACKEND_RATE_LIMITED,
    502: Code.BACKEND_OVERLOADED,
    503: Code.BACKEND_OVERLOADED,
    504: Code.BACKEND_OVERLOADED,
    529: Code.BACKEND_OVERLOADED,
}

# Where codex says "other", only its message tells.
_BY_TEXT: tuple[tuple[re.Pattern[str], Code], ...] = tuple(
    (re.compile(pattern, re.IGNORECASE), code)
    for pattern, code in (
        (r"reason: content_filter", Code.REFUSED),
        (r"missing environment variable|not logged in", Code.NOT_LOGGED_IN),
        (r"\bmodel\b.*(not supported|not exist|not found)", Code.MODEL_NOT_FOUND),
        (r"connection failed|transport error|lookup address|connection refused", Code.BACKEND_UNREACHABLE),
        (r"idle timeout|network error|websocket closed", Code.BACKEND_UNREACHABLE),
    )
)

_HOPELESS_STATUS = frozenset({400, 402, 403, 404, 405, 413, 422})
_HOPELESS_CODE = frozenset({Code.REFUSED, Code.MODEL_NOT_FOUND, Code.CONTEXT_TOO_LONG, Code.NOT_LOGGED_IN})

_AGAIN = re.compile(r"try again in ((?:\d+(?:\.\d+)?\s*[a-z]+[,\s]*(?:and\s+)?)+)", re.IGNORECASE)
_SPAN = re.compile(r"(\d+(?:\.\d+)?)\s*([a-z]+)", re.IGNORECASE)
_UNIT_S: Mapping[str, float] = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86_400}

_URL = re.compile(r", url: \S+")


class _Body(Struct):
    class Error(Struct):
        message: str = ""

    error: Error


def failed(trouble: Trouble) -> Failed:
    """Say what a trouble is in our words."""
    text = _text(trouble)
    return Failed(_code(trouble, text), text or "codex gave no reason", retry_after=_retry_after(text))


def is_hopeless(trouble: Trouble) -> bool:
    """Tell whether codex's retrying cannot help: it retries even what the provider will always refuse.

    A refused WebSocket is no refusal: the built-in provider tries that first, and HTTPS after five failures.
    """
    text = trouble.additional_details or trouble.message
    _, status = _info(trouble)
    if "url: ws" in text and status != _UNAUTHORIZED:
        return False
    return status in _HOPELESS_STATUS or _code(trouble, text) in _HOPELESS_CODE


def refusal(error: RpcError) -> Refusal:
    """Say what codex's no to a request is in our words. It has one code for all (-32600): only the message tells."""
    text = error.message
    if "active writer" in text:
        return Refusal(Code.SESSION_BUSY, "another codex process has this conversation open")
    if "no rollout found" in text or "invalid session id" in text or "thread not found" in text:
        return Refusal(Code.NOT_FOUND, f"codex knows no such conversation: {text}")
    if "exceeds the maximum length" in text:
        return Refusal(Code.CONTEXT_TOO_LONG, f"codex: {text}", param="prompt")
    return Refusal(Code.BACKEND_ERROR, f"codex: {text}")


def is_cut_off(trouble: Trouble) -> bool:
    """Tell whether the model stopped at its limit of output, which codex takes for a failure."""
    return "reason: max_output_tokens" in trouble.message


_UNAUTHORIZED = 401


def _code(trouble: Trouble, text: str) -> Code:
    word, status = _info(trouble)
    if code := _BY_WORD.get(word) or _BY_STATUS.get(status):
        return code
    for pattern, code in _BY_TEXT:
        if pattern.search(text):
            return code
    return Code.BACKEND_ERROR


def _info(trouble: Trouble) -> tuple[str, int]:
    """Take apart codex's word for the trouble, and the HTTP status with it (0: none)."""
    info: object = trouble.codex_error_info
    if isinstance(info, dict):
        for word, details in cast("dict[str, object]", info).items():
            match details:
                case {"httpStatusCode": int(status)}:
                    return word, status
                case _:
                    return word, 0
    return (info, 0) if isinstance(info, str) else ("", 0)


def _text(trouble: Trouble) -> str:
    """Give the telling text: of a retry that is in the details; of a bad request it is the body of the answer."""
    text = _URL.sub("", trouble.additional_details or trouble.message)
    try:
        return msgspec.json.decode(text, type=_Body).error.message or text
    except msgspec.DecodeError:
        return text


def _retry_after(text: str) -> float | UnsetType:
    found = _AGAIN.search(text)
    if found is None:
        return UNSET
    spans = [(float(number), unit.lower()) for number, unit in _SPAN.findall(found[1])]
    return sum(number * _UNIT_S.get("ms" if unit == "ms" else unit[0], 0) for number, unit in spans)
