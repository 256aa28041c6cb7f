"""The ids by which clients name their conversations, in the order in which they count (clients.md, 1.6)."""

import re
from collections.abc import Mapping
from typing import Any, cast

import msgspec
from msgspec import Struct
from msgspec.structs import replace

MOST = 512
"""Characters of an id; a longer one is none."""

_USER_SESSION = re.compile(r"session_([0-9A-Za-z-]+)\Z")


class Source(Struct, frozen=True):
    """A conversation's name.

    `latest`: its client may send the newest message alone; all others send the whole conversation all the same.
    `agent`: its client is an agent itself, whose instructions are its own, and never twice the same: the date is in
    them, or the state of a checkout.
    """

    name: str = ""
    latest: bool = False
    agent: bool = False


_FULL, _LATEST, _AGENT = Source(), Source(latest=True), Source(agent=True)
_HEADERS = (
    ("session-id", _AGENT),
    ("session_id", _AGENT),
    ("x-session-id", _LATEST),
    ("x-session-affinity", _AGENT),
    ("x-opencode-session", _AGENT),
    ("x-openwebui-chat-id", _FULL),
    ("x-client-request-id", _FULL),
)
_FIELDS = (("session_id", _LATEST), ("prompt_cache_key", _FULL), ("conversation", _LATEST))


def source_of(headers: Mapping[str, str], body: Mapping[str, Any]) -> Source:
    """Return what a request names its conversation; an empty name if it does not.

    `headers` are case-insensitive or in lower case; `body` has at least the fields `metadata`, `session_id`,
    `prompt_cache_key` and `conversation` of the request, where they are there.
    """
    candidates = [
        ("x-claude-code-session-id", headers.get("x-claude-code-session-id"), _AGENT),
        ("metadata", _of_metadata(body.get("metadata")), _AGENT),
        *((where, headers.get(where), kind) for where, kind in _HEADERS),
        *((where, _of_field(body.get(where)), kind) for where, kind in _FIELDS),
    ]
    for where, name, kind in candidates:
        if name and len(name) <= MOST:
            return replace(kind, name=f"{where}:{name}")
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
