"""What a pool is asked and told: the vocabulary between it, the sessions, and whoever looks at a backend."""

from msgspec import Struct

from actors.mailbox import Ask, Ref, Stream, Tell
from actors.messages import Failed, Options
from actors.runner import RunnerLimits


class Lease(Stream[Ref], frozen=True):
    """The runner for a session's next turn: emitted once it is ready. Refused with the reason if there is none.

    `resume` is the agent's own id of the conversation, in case its process is gone.
    """

    session: str
    holder: Ref
    options: Options
    resume: str | None = None


class Released(Tell, frozen=True):
    """Sent to a session: its conversation is no longer live in that runner, which `died` or gave it up."""

    runner: Ref
    died: bool


class Close(Tell, frozen=True):
    """A session will not come back: what is live of it may go."""

    session: str


class Verdict(Tell, frozen=True):
    """How a turn ended: None, or its failure. A login that has expired shows up here."""

    failed: Failed | None


class Status(Ask["PoolStatus"], frozen=True):
    """What the pool can offer now."""


class PoolStatus(Struct, frozen=True):
    """Whether a turn would find a process, why not, how many processes there are, and how many turns wait for one."""

    available: bool
    reason: str
    idle: int
    busy: int
    waiting: int


class PoolLimits(Struct, frozen=True):
    """How many processes there may be, and for how long (seconds)."""

    spares: int = 1
    max_processes: int = 8
    max_spawning: int = 2
    max_idle: int = 4
    max_conversations: int = 64
    idle_ttl: float = 600.0
    runner: RunnerLimits = RunnerLimits()
