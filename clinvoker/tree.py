"""The supervision tree of a daemon: its actors, in the order in which they start."""

from collections.abc import Callable, Mapping
from functools import partial

from actors.errors import Refusal
from actors.lease import PoolLimits
from actors.limiter import Limiter, Limits
from actors.messages import Options, Prompt
from actors.pool import Pool
from actors.runner import RunnerLimits
from actors.supervisor import ChildSpec, DynamicSupervisor, Supervisor
from actors.telemetry import Observer
from clinvoker.backends.choice import Backend, check, with_defaults
from clinvoker.callers import limits_of
from clinvoker.config import BackendSettings, Settings
from clinvoker.policy import Policy
from clinvoker.store import Database, Store, StoreLimits

DAY = 86_400.0

FLUSH = 1.0
"""Seconds of the shutdown grace that the readers get for the last events, and the server for its connections."""


def make_tree(
    settings: Settings,
    backends: Mapping[str, Backend],
    database: Database,
    marker: Callable[[], str],
    observe: Observer,
    make_limiter: Callable[[], Limiter],
) -> Supervisor:
    """The supervision tree; stopped from the bottom of this list to its top."""
    server = settings.server

    def pool(backend: Backend) -> Pool:
        limits = _pool_limits(backend.settings, server.kill_grace_secs)
        default = _usual_options(backend, settings)
        return Pool(backend.driver, limits, default, marker, observe)

    places = server.max_concurrent_runs + server.queue_size
    live_sessions = places + sum(
        each.settings.max_conversations * each.settings.max_processes for each in backends.values()
    )
    stop_runs, stop_pools = FLUSH, server.kill_grace_secs + 1
    return Supervisor(
        [
            ChildSpec(
                "store", lambda: Store(database, StoreLimits(retention=settings.session.retention_days * DAY))
            ),
            ChildSpec("limiter", make_limiter),
            *(
                ChildSpec(f"pool-{name}", partial(pool, backend), shutdown=stop_pools)
                for name, backend in backends.items()
            ),
            ChildSpec("sessions", lambda: DynamicSupervisor("sessions", observe, live_sessions, stop_pools)),
            # Finished runs stay for as long as their readers do, hence the room.
            ChildSpec("runs", lambda: DynamicSupervisor("runs", observe, places * 8, stop_runs)),
        ],
        observe,
    )


def run_limits(settings: Settings) -> Limits:
    """How many runs there may be, of everybody and of one caller."""
    server = settings.server
    each, own = limits_of(settings)
    return Limits(server.max_concurrent_runs, server.queue_size, server.queue_timeout_secs, each, own)


def _usual_options(backend: Backend, settings: Settings) -> Options:
    """What a request gets that says nothing, where the agent can: for the processes that wait for one."""
    plain = with_defaults(Options(), backend.settings)
    bounded = Policy(settings).bounded(plain)
    try:
        check(backend, bounded, Prompt("x"))
    except Refusal:
        return plain
    return bounded


def _pool_limits(settings: BackendSettings, kill_grace: float) -> PoolLimits:
    return PoolLimits(
        spares=settings.spares,
        max_processes=settings.max_processes,
        max_spawning=settings.max_spawning,
        max_idle=settings.max_idle,
        max_conversations=settings.max_conversations,
        idle_ttl=settings.idle_ttl_secs,
        runner=RunnerLimits(start=settings.start_timeout_secs, kill=kill_grace),
    )
