"""What a surface asks for: the three kinds of fan-out."""

from msgspec import Struct

from clinvoker.calls import PromptCall


class Isolation(Struct, frozen=True):
    """Every task in a git worktree of its own."""

    keep: bool = False
    """Whether the branches stay, with what was changed committed to them."""
    check: str = ""
    """A shell command to run in each worktree after its agent; empty for none."""


class _Call(Struct, frozen=True, kw_only=True):
    caller: str = ""
    detach: bool = False
    idempotency_key: str = ""
    body_hash: bytes = b""


class ParallelCall(_Call, frozen=True, kw_only=True):
    """Many turns at once. None means what the configuration says."""

    tasks: tuple[PromptCall, ...]
    max_parallel: int | None = None
    fail_fast: bool | None = None
    isolation: Isolation | None = None


class Step(Struct, frozen=True):
    """A turn of a chain; `name` may be empty. Its prompt is a template."""

    call: PromptCall
    name: str = ""


class ChainCall(_Call, frozen=True, kw_only=True):
    """Turns in order, each of which may speak of what the ones before it answered."""

    steps: tuple[Step, ...]
    input: str = ""
    stop_on_failure: bool = True
    pass_working_dir: bool = False
    """A step that names no directory works in that of the step before it."""
    persist_sessions: bool = False
    """Keep the steps' sessions, to go on with them later."""
    continue_session: bool = False
    """Steps in a row on one backend are turns of one conversation."""


class Judge(Struct, frozen=True):
    """Who ranks the answers, and by what."""

    backend: str = ""
    model: str = ""
    criteria: str = ""


class CompareCall(_Call, frozen=True, kw_only=True):
    """One turn on several backends; no `backends`: all that are available."""

    call: PromptCall
    backends: tuple[str, ...] = ()
    sequential: bool = False
    isolation: Isolation | None = None
    judge: Judge | None = None


FanoutCall = ParallelCall | ChainCall | CompareCall
