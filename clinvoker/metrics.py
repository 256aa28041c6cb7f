"""From the actors' records to Prometheus series. Label values come from bounded sets only."""

import trio
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from actors.telemetry import (
    ChildEnded,
    LinesUnparsed,
    PoolLevel,
    ProcessEnded,
    ProcessSpent,
    ProcessStarted,
    QueueLevel,
    Record,
    RunEnded,
    RunStarted,
    StreamFailed,
)

FAST = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
"""Buckets in seconds: from a warm agent's first token to the longest run."""

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
"""The methods that are counted by name."""

REFUSED = "refused"
"""The route of what was refused before one was looked up: by the guard, or by the HTTP ground."""

LAG_EVERY = 0.5
"""Seconds between two looks at the event loop."""


class Metrics:
    """The daemon's series, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.restarts = 0
        r = self.registry
        self.requests = Counter(
            "clinvoker_requests", "HTTP requests", ["route", "method", "status"], registry=r
        )
        self.runs = Counter("clinvoker_runs", "Runs that ended", ["backend", "outcome"], registry=r)
        self.running = Gauge("clinvoker_runs_running", "Runs going now", ["backend"], registry=r)
        self.first_event = Histogram(
            "clinvoker_first_event_seconds",
            "From a run's start to its first event",
            ["backend"],
            buckets=FAST,
            registry=r,
        )
        self.duration = Histogram(
            "clinvoker_run_duration_seconds", "Of runs", ["backend"], buckets=FAST, registry=r
        )
        self.tokens = Counter("clinvoker_tokens", "Tokens of completed runs", ["backend", "kind"], registry=r)
        self.processes = Gauge(
            "clinvoker_processes", "Live agent processes", ["backend", "state"], registry=r
        )
        self.spawns = Counter("clinvoker_spawns", "Agent processes that came up", ["backend"], registry=r)
        self.spawn_time = Histogram(
            "clinvoker_spawn_seconds", "From launch to ready", ["backend"], buckets=FAST, registry=r
        )
        self.ends = Counter(
            "clinvoker_process_ends", "Agent processes gone", ["backend", "reason"], registry=r
        )
        self.child_restarts = Counter(
            "clinvoker_actor_restarts", "Actors restarted after a crash", ["actor"], registry=r
        )
        self.crashes = Counter("clinvoker_actor_crashes", "Actors and streams that crashed", registry=r)
        self.queue = Gauge("clinvoker_queue_depth", "Waiting now", ["queue"], registry=r)
        self.unparsed = Counter(
            "clinvoker_unparsed_lines", "Lines of agents that are no message", ["backend"], registry=r
        )
        self.reload_failed = Counter(
            "clinvoker_config_reload_failed", "Reloads that found the configuration invalid", registry=r
        )
        self.tasks = Gauge("clinvoker_tasks", "Tasks of the event loop that live now", registry=r)
        self.lag = Histogram(
            "clinvoker_event_loop_lag_seconds", "How late a timer fires", buckets=FAST, registry=r
        )

    def count_request(self, route: str, method: str, status: int) -> None:
        """Count a request; a caller may send any word for a method, so only the usual ones are told apart."""
        self.requests.labels(route, method if method in METHODS else "other", str(status)).inc()

    def observe(self, record: Record) -> None:
        """Count a record."""
        match record:
            case RunStarted(backend=backend):
                self.running.labels(backend).inc()
            case RunEnded():
                self._observe_run(record)
            case PoolLevel():
                self.processes.labels(record.backend, "busy").set(record.busy)
                self.processes.labels(record.backend, "idle").set(record.idle)
                self.processes.labels(record.backend, "spare").set(record.spare)
                self.queue.labels(f"pool_{record.backend}").set(record.waiting)
            case QueueLevel():
                self.queue.labels("runs").set(record.waiting)
            case ProcessStarted() | ProcessSpent() | ProcessEnded():
                self._observe_process(record)
            case LinesUnparsed():
                self.unparsed.labels(record.backend).inc(record.count)
            case StreamFailed():
                self.crashes.inc()
            case ChildEnded():
                self._observe_end(record)

    def render(self) -> bytes:
        """The series in Prometheus text format; to be called in the event loop."""
        self.tasks.set(trio.lowlevel.current_statistics().tasks_living)
        return generate_latest(self.registry)

    async def watch_loop(self) -> None:
        """Measure how late the event loop runs, until cancelled."""
        while True:
            due = trio.current_time() + LAG_EVERY
            await trio.sleep_until(due)
            self.lag.observe(max(0.0, trio.current_time() - due))

    def _observe_process(self, record: ProcessStarted | ProcessSpent | ProcessEnded) -> None:
        match record:
            case ProcessStarted():
                self.spawns.labels(record.backend).inc()
                self.spawn_time.labels(record.backend).observe(record.seconds)
            case ProcessEnded():
                self.ends.labels(record.backend, record.reason).inc()
            case ProcessSpent():
                pass  # its end is what counts

    def _observe_run(self, record: RunEnded) -> None:
        backend = record.backend
        self.running.labels(backend).dec()
        self.runs.labels(backend, record.outcome).inc()
        self.duration.labels(backend).observe(record.duration)
        if record.first_event is not None:
            self.first_event.labels(backend).observe(record.first_event)
        self.tokens.labels(backend, "input").inc(record.usage.input_tokens)
        self.tokens.labels(backend, "output").inc(record.usage.output_tokens)
        self.tokens.labels(backend, "cached").inc(record.usage.cached_tokens)
        self.tokens.labels(backend, "reasoning").inc(record.usage.reasoning_tokens)

    def _observe_end(self, record: ChildEnded) -> None:
        if record.error is not None:
            self.crashes.inc()
        if record.restarted:
            self.restarts += 1
            self.child_restarts.labels(record.child).inc()
