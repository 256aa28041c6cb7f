"""What the surfaces ask for, and what they get: a call, and the run that was started for it."""

from collections.abc import Awaitable, Callable

from msgspec import Struct

from actors.mailbox import Ref
from actors.messages import Options, Prompt
from actors.recorder import Identity, Recorder
from clinvoker.flows import Parallel
from clinvoker.keeping import RunJournal


class PromptCall(Struct, frozen=True):
    """One turn, as any surface asks for it. Empty `backend` means the default one, or the session's own."""

    prompt: Prompt
    options: Options = Options()
    backend: str = ""
    session_id: str = ""
    """The session to go on with: its id, or a unique prefix of it."""
    caller: str = ""
    client: str = ""
    """Whose limits count; empty: the caller's."""
    queue: bool = False
    detach: bool = False
    calls: Parallel = "none"
    scratch: bool = False
    """In no directory but one of its own, whatever the caller's key says."""
    tags: tuple[str, ...] = ()
    metadata: dict[str, str] = {}
    idempotency_key: str = ""
    body_hash: bytes = b""


class Place(Struct, frozen=True):
    """Where work is done: its run, and what keeps it."""

    run: Ref
    journal: RunJournal | None


class Job(Struct, frozen=True):
    """A call that was checked: what its run is to do."""

    kind: str
    backend: str
    """What the run's own events carry."""
    work: Callable[[Recorder, Place], Awaitable[None]]
    session_id: str = ""
    """Empty unless the run is one turn of a session."""
    prompt: str = ""
    options: Options = Options()
    kept: bool = True


class Started(Struct, frozen=True):
    """A run that is on its way, or the one that this request started when it was sent before."""

    identity: Identity
    options: Options
    began: float
    """On trio's clock, seconds."""
    after: int = 0
    """The entry after which what answers the request begins."""
