"""The ids by which clients name their conversations, in the order in which they count (clients.md, 1.6)."""

import re
from collections.abc import Mapping
from typing import Any, cast

import msgspec
from msgspec import Struct

MOST = 512
"""Characters of an id; a longer one is none."""

_USER_SESSION = re.compile(r"session_([0-9A-Za-z-]+)\Z")

# A client that sends one of the first kind sends the whole conversation all the same.
_FULL, _LATEST = False, True
_HEADERS = (
    ("session-id", _FULL),
    ("session_id", _FULL),
    ("x-session-id", _LATEST),
    ("x-session-affinity", _FULL),
    ("x-opencode-session", _FULL),
    ("x-openwebui-chat-id", _FULL),
    ("x-client-request-id", _FULL),
)
_FIELDS = (("session_id", _LATEST), ("prompt_cache_key", _FULL), ("conversation", _LATEST))


class Source(Struct, frozen=True):
    """A conversation's name. `latest`: its client may send the newest message alone."""

    name: str = ""
    latest: bool = False


def source_of(headers: Mapping[str, str], body: Mapping[str, Any]) -> Source:
    """Return what a request names its conversation; an empty name if it does not.

    `headers` are case-insensitive or in lower case; `body` has at least the fields `metadata`, `session_id`,
    `prompt_cache_key` and `conversation` of the request, where they are there.
    """
    candidates = [
        ("x-claude-code-session-id", headers.get("x-claude-code-session-id"), _FULL),
        ("metadata", _of_metadata(body.get("metadata")), _FULL),
        *((name, headers.get(name), latest) for name, latest in _HEADERS),
        *((name, _of_field(body.get(name)), latest) for name, latest in _FIELDS),
    ]
    for kind, name, latest in candidates:
        if name and len(name) <= MOST:
            return Source(f"{kind}:{name}", latest)
    return Source()


def _of_metadata(metadata: object) -> str | None:
    """The session in `metadata.user_id`, as Claude Code writes it: JSON, formerly `user_…_session_<uuid>`."""
    user = cast("dict[str, object]", metadata).get("user_id") if isinstance(metadata, dict) else None
    if not isinstance(user, str):
        return None
    if found := _USER_SESSION.search(user):
        return found[1]
    try:
        told = msgspec.json.decode(user)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    session = cast("dict[str, object]", told).get("session_id") if isinstance(told, dict) else None
    return session if isinstance(session, str) else None


def _of_field(value: object) -> str | None:
    """A field that is an id, or an object that has one (`conversation` of the Responses API)."""
    if isinstance(value, dict):
        value = cast("dict[str, object]", value).get("id")
    return value if isinstance(value, str) else None
