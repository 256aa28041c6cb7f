"""What goes into the store and comes out of it. Times are seconds since 1970."""

from typing import Literal

from msgspec import Struct

from actors.messages import Options, Usage

SessionStatus = Literal["idle", "running", "error"]
"""Waiting for a turn, one in hand, or waiting after one that failed. Adding and finishing turns sets it."""

RunStatus = Literal["running", "complete", "error"]

PREFIX = 4
"""Characters of an id that are enough, where they are unique."""


class SessionRecord(Struct, frozen=True, kw_only=True):
    """A session; `conversation` is the agent's own id of it, `parent` the session it was forked from."""

    id: str
    owner: str
    backend: str
    created: float
    updated: float
    options: Options = Options()
    workdir: str = ""
    model: str = ""
    title: str = ""
    tags: tuple[str, ...] = ()
    metadata: dict[str, str] = {}
    status: SessionStatus = "idle"
    conversation: str | None = None
    parent: str | None = None
    turns: int = 0
    """The number of the last turn. The store keeps it: what is put in here is ignored."""


class TurnRecord(Struct, frozen=True, kw_only=True):
    """A turn of a session, numbered from 1. `code` is None unless it failed, `ended` None while it is in hand."""

    session: str
    number: int
    run: str
    prompt: str
    started: float
    output: str = ""
    code: str | None = None
    message: str = ""
    usage: Usage | None = None
    ended: float | None = None


class RunRecord(Struct, frozen=True, kw_only=True):
    """A run. `outcome` is whatever JSON its kind ends with; `body_hash` tells two requests under one key apart."""

    id: str
    owner: str
    kind: str
    backend: str
    began: float
    session: str | None = None
    status: RunStatus = "running"
    ended: float | None = None
    outcome: bytes = b""
    idempotency_key: str | None = None
    body_hash: bytes = b""


class SessionFilter(Struct, frozen=True, kw_only=True):
    """Which sessions of an owner to list, the most recently used first. Empty means all.

    `q` looks for words in prompts and answers: all must occur in one turn; "several words" in quotes stand together.
    """

    owner: str
    backend: str = ""
    status: str = ""
    tag: str = ""
    q: str = ""
    limit: int = 50
    offset: int = 0


class SessionPage(Struct, frozen=True):
    """A page of a list, and how many there are in all."""

    sessions: tuple[SessionRecord, ...]
    total: int
    limit: int
    offset: int


class Ambiguous(Struct, frozen=True):
    """More than one session's id begins so."""

    prefix: str


class StoreCounts(Struct, frozen=True):
    """How much there is: sessions in all, and bytes of the database in use."""

    sessions: int
    size: int
