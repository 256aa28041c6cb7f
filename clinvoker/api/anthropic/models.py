"""The models that this surface offers, and the names under which Claude Code shows them.

Claude Code lists only models whose names begin with `claude` or `anthropic`: what goes by another name is offered as
`claude-via-<name>` beside it.
"""

import re
from collections.abc import Mapping
from typing import Literal

from msgspec import Struct

from actors.errors import Code, Refusal
from clinvoker.backends.choice import Backend
from clinvoker.chat import models
from clinvoker.chat.models import VIA

_SHOWN = re.compile("claude|anthropic")
"""The names that Claude Code shows, whichever agent they stand for."""

MOST = 1000


class ModelInfo(Struct, frozen=True):
    """A model. Nobody tells us when it was made: then the API says the epoch."""

    id: str
    display_name: str
    created_at: str = "1970-01-01T00:00:00Z"
    type: Literal["model"] = "model"
    lifecycle: Literal["active"] = "active"


class ModelList(Struct, frozen=True):
    """A page of models."""

    data: list[ModelInfo]
    has_more: bool
    first_id: str | None
    last_id: str | None


def info(backends: Mapping[str, Backend], name: str) -> ModelInfo:
    """Return the model of that name. Raises `Refusal`."""
    choice = models.resolve(backends, name)
    title = backends[choice.backend].settings.title or choice.backend
    return ModelInfo(name, f"{title}: {choice.model}" if choice.model else title)


def page(
    backends: Mapping[str, Backend], limit: int, after: str | None = None, before: str | None = None
) -> ModelList:
    """Return a page of the models, those after or those before one of them. Raises `Refusal`."""
    names = offered(backends)
    for cursor, name in (("after_id", after), ("before_id", before)):
        if name is not None and name not in names:
            raise Refusal(Code.INVALID_REQUEST, f"{cursor}: there is no model {name!r}", param=cursor)
    if after is not None:
        names = names[names.index(after) + 1 :]
    if before is not None:
        names = names[: names.index(before)] if before in names else []
    shown = names[:limit] if before is None else names[-limit:]
    data = [info(backends, name) for name in shown]
    return ModelList(
        data, len(shown) < len(names), data[0].id if data else None, data[-1].id if data else None
    )


def offered(backends: Mapping[str, Backend]) -> list[str]:
    """Every name in the list."""
    names = models.listed(backends)
    hidden = [name for name in backends if not _SHOWN.match(name)]
    return [*names, *(VIA + name for name in hidden)]
