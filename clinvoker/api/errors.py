"""An error as an HTTP answer: its status, its headers, and its body in each API's dialect."""

import math

from msgspec import json

from actors.errors import Code, Refusal
from clinvoker.api.dialects import Fault, error_body
from clinvoker.chat.failure import ActedRefusal
from clinvoker.errors import TABLE

STAYS = frozenset({Code.NOT_INSTALLED, Code.NOT_LOGGED_IN})
"""What a retry does not help: somebody has to do something. The SDKs would try a 503 again."""


LONG = 60.0
"""Seconds of waiting that a client is told of instead of spending them: anthropic's SDKs sleep as long as is said,
openai-python 1.x takes no notice and tries three times in vain (clients.md, 1.1)."""


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
