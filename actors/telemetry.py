"""What happened, as frozen records: the core knows no metrics library and no logger, it hands these to an observer."""

from collections.abc import Callable

from msgspec import Struct

from actors.messages import Usage


class ChildEnded(Struct, frozen=True):
    """An actor came to an end: `error` is None for an orderly one; `restarted` says what its supervisor did."""

    child: str
    error: BaseException | None
    restarted: bool


class StreamFailed(Struct, frozen=True):
    """The work behind one stream crashed; its reader was told, the actor lives on."""

    child: str
    stream: str
    error: str


class ProcessStarted(Struct, frozen=True):
    """An agent process is ready; `seconds` from launch to handshake."""

    backend: str
    seconds: float


class ProcessSpent(Struct, frozen=True):
    """An agent process takes no more turns; its runner is about to end."""

    backend: str


class ProcessEnded(Struct, frozen=True):
    """An agent process is gone. `reason` is one of `idle`, `stopped`, `died`, `failed_to_start`."""

    backend: str
    reason: str
    detail: str = ""


class PoolLevel(Struct, frozen=True):
    """How many processes a pool has now, and how many leases wait for one."""

    backend: str
    busy: int
    idle: int
    spare: int
    waiting: int


class RunStarted(Struct, frozen=True):
    """A run began."""

    backend: str


class RunEnded(Struct, frozen=True):
    """A run ended. `outcome` is `complete` or an error code; times in seconds; `first_event` None if none came."""

    run_id: str
    backend: str
    outcome: str
    duration: float
    first_event: float | None
    usage: Usage


class QueueLevel(Struct, frozen=True):
    """How many runs are admitted and how many wait for a place."""

    running: int
    waiting: int


class LinesUnparsed(Struct, frozen=True):
    """An agent wrote lines that are no message of its protocol."""

    backend: str
    count: int


Record = (
    ChildEnded
    | StreamFailed
    | ProcessStarted
    | ProcessSpent
    | ProcessEnded
    | PoolLevel
    | RunStarted
    | RunEnded
    | QueueLevel
    | LinesUnparsed
)

Observer = Callable[[Record], None]
"""Takes a record; must not wait and must not raise."""
