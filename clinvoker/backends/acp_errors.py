"""What an ACP agent's error means, in our words.

The protocol has one code of its own, for a missing login. Agents pass on what the model's API said: gemini 0.61.0 as
`code` = HTTP status and the API's JSON as `message`, opencode 1.18.33 as `code` -32603 with prose alone.
"""

import re
from contextlib import suppress

import msgspec
from msgspec import UNSET, Struct

from actors.errors import Code, Refusal
from actors.messages import Failed
from clinvoker.backends.jsonrpc import RpcError

AUTH_REQUIRED = -32000

_BY_STATUS = {
    401: Code.NOT_LOGGED_IN,
    403: Code.NOT_LOGGED_IN,
    404: Code.MODEL_NOT_FOUND,
    413: Code.CONTEXT_TOO_LONG,
    429: Code.BACKEND_RATE_LIMITED,
    503: Code.BACKEND_OVERLOADED,
    529: Code.BACKEND_OVERLOADED,
    AUTH_REQUIRED: Code.NOT_LOGGED_IN,
}

# In order: what an API says of a request that is too long also has the words of other faults.
_BY_WORDS = (
    (
        Code.CONTEXT_TOO_LONG,
        r"context.{0,20}(length|limit|window|overflow)|token count.{0,40}exceed|(prompt|input|history).{0,20}too (long|large)",
    ),
    (Code.BACKEND_RATE_LIMITED, r"rate.?limit|quota|too many requests|resource.?exhausted"),
    (Code.BACKEND_OVERLOADED, r"overloaded|UNAVAILABLE"),
    (
        Code.NOT_LOGGED_IN,
        r"api.?key|unauthori[sz]ed|unauthenticated|authenticat|not logged in|permission.?(denied|error)|credential",
    ),
    (Code.MODEL_NOT_FOUND, r"models?\b.{0,120}?(not found|not supported|does not exist|is invalid)"),
    (
        Code.BACKEND_UNREACHABLE,
        r"ECONNREFUSED|ECONNRESET|ENOTFOUND|EAI_AGAIN|ETIMEDOUT|fetch failed|unable to connect|cannot connect|connection refused",
    ),
)
_WORDS = tuple((code, re.compile(words, re.IGNORECASE)) for code, words in _BY_WORDS)

# "Suggested retry after 3s." is gemini 0.61.0's rendering of google.rpc.RetryInfo; "retryDelay":"3s" is the original.
_RETRY_AFTER = re.compile(
    r'retry after (\d+(?:\.\d+)?)\s*s|retryDelay"\s*:\s*"(\d+(?:\.\d+)?)s', re.IGNORECASE
)


class _Api(Struct):
    message: str
    status: str = ""


class _ApiError(Struct):
    error: _Api


class _Details(Struct):
    """What agents put into an error's `data` to say more."""

    details: str = ""
    error_name: str = msgspec.field(default="", name="errorName")


def failed(error: RpcError) -> Failed:
    """Return the end of a turn whose prompt was answered with an error."""
    details = _details(error)
    message = _prose(error.message)
    if details.details and details.details not in message:
        message = f"{message}: {details.details}"
    retry_after = _RETRY_AFTER.search(error.message)
    return Failed(
        _code(error.code, f"{message} {details.error_name}"),
        message,
        retry_after=float(retry_after[1] or retry_after[2]) if retry_after else UNSET,
    )


def refusal(error: RpcError, *, param: str | None = None) -> Refusal:
    """Return the same for what was asked outside of a turn."""
    told = failed(error)
    retry_after = None if told.retry_after is UNSET else told.retry_after
    return Refusal(told.code, told.message, param=param, retry_after=retry_after)


def _code(code: int, words: str) -> Code:
    status = _BY_STATUS.get(code)
    if status is not None:
        return status
    for meaning, pattern in _WORDS:
        if pattern.search(words):
            return meaning
    return Code.BACKEND_ERROR


def _prose(message: str) -> str:
    """Return what people can read in a message that may be an API's JSON."""
    if message.startswith("{"):
        with suppress(msgspec.DecodeError):
            return msgspec.json.decode(message, type=_ApiError).error.message
    return message.removeprefix("Internal error: ") or "the agent gave no reason"


def _details(error: RpcError) -> _Details:
    with suppress(msgspec.ValidationError):
        return msgspec.convert(error.data, _Details)
    return _Details()
