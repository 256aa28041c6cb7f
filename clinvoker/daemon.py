"""The composition root: builds the supervision tree, serves, and drains. Reads like a parts list."""

import itertools
import os
import resource
import signal
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import closing
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import msgspec
import trio
from msgspec import Struct

from actors.errors import Refusal
from actors.guardian import keep_guardian, sweep_dead_instances
from actors.limiter import Adjust, Drain, Limiter, WaitIdle
from actors.mailbox import Ref
from actors.marker import Instance
from actors.messages import Options, Prompt
from actors.telemetry import ChildEnded, Observer, ProcessEnded, Record, RunEnded, StreamFailed
from clinvoker.api.app import make_app
from clinvoker.api.dialects import Fault, error_body
from clinvoker.api.guard import Guard, id_headers, new_request_id
from clinvoker.api.rates import Rates
from clinvoker.backends.choice import Backend, check, with_defaults
from clinvoker.backends.environment import tool_environment
from clinvoker.backends.registry import PROTOCOLS
from clinvoker.callers import limits_of
from clinvoker.config import ConfigError, Settings
from clinvoker.http.exchange import App
from clinvoker.http.limits import Limits
from clinvoker.http.refusal import Headers, RenderError
from clinvoker.http.server import serve
from clinvoker.http.sockets import bind
from clinvoker.http.unix import bind_unix, closing_all, peer_uid
from clinvoker.logs import get_logger, set_level
from clinvoker.metrics import REFUSED, Metrics
from clinvoker.reload import Load, reload
from clinvoker.service import Service
from clinvoker.store import Database, StoreClient
from clinvoker.tracing import OFF, Tracing
from clinvoker.tree import FLUSH, make_tree, run_limits
from clinvoker.turns import Turns
from clinvoker.watchdog import watch_actors
from clinvoker.worktrees import Worktrees

if TYPE_CHECKING:
    from clinvoker.otel import OpenTelemetry

_log = get_logger("clinvoker")


class Up(Struct, frozen=True):
    """What a started daemon reports."""

    urls: list[str]


async def run_daemon(
    settings: Settings,
    environ: Mapping[str, str],
    database: Database,
    *,
    stop: trio.Event | None = None,
    load: Load | None = None,
    task_status: trio.TaskStatus[Up] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Run until SIGTERM, SIGINT or `stop`, then drain. SIGHUP has `load` read the configuration again.

    `database` must be prepared. Raises `BindError` if the address cannot be had, `RestartsExhausted` if the tree gave up.
    """
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signals:
        sockets = _bind(settings)
        with closing_all(sockets):
            await _run(
                settings, environ, database, sockets, signals, stop=stop, load=load, task_status=task_status
            )


async def _run(
    settings: Settings,
    environ: Mapping[str, str],
    database: Database,
    sockets: list[socket.socket],
    signals: AsyncIterator[int],
    *,
    stop: trio.Event | None,
    load: Load | None,
    task_status: trio.TaskStatus[Up],
) -> None:
    instance = Instance.current()
    metrics = Metrics()
    observe = _observer(metrics)
    backends = _backends(settings, environ)
    serial = itertools.count(1)

    def marker() -> str:
        return instance.marker(next(serial))

    def make_limiter() -> Limiter:
        return Limiter(run_limits(service.settings), observe)

    supervisor = make_tree(settings, backends, database, marker, observe, make_limiter)
    refs = supervisor.refs
    tracing = _tracing(settings, environ)
    worktrees = Worktrees(
        Path(settings.state_dir, "worktrees"),
        tool_environment(environ),
        marker,
        settings.server.kill_grace_secs,
    )
    service = _service(settings, backends, refs, observe, worktrees, tracing or OFF)
    rates = Rates(refs["limiter"], service.turns.budgets, settings)
    app = Guard(cast("App", make_app(service, metrics)), settings, metrics.count_request, rates)
    reloading = trio.Lock()

    async def take_new_settings() -> None:
        # Whoever waits here already will read what there is then.
        if load is None or reloading.statistics().tasks_waiting:
            return
        async with reloading:
            changed = await reload(service.settings, load)
            if changed is None:
                metrics.reload_failed.inc()
                return
            set_level(changed.log.level)
            service.reconfigure(changed)
            app.reconfigure(changed)
            await refs["limiter"].tell(Adjust(*limits_of(changed)))

    closed = trio.Event()
    # Left inside out: the tree, whose last events the server still writes; the server; the guardian last of all.
    async with trio.open_nursery() as guarding:
        guarding.start_soon(keep_guardian, instance)
        guarding.start_soon(sweep_dead_instances)
        guarding.start_soon(worktrees.remove_leftovers)
        async with trio.open_nursery() as serving:
            async with trio.open_nursery() as tending:
                await tending.start(supervisor.run)
                tending.start_soon(metrics.watch_loop)
                tending.start_soon(watch_actors, list(refs.values()))
                tending.start_soon(_tend, service)
                start_server = partial(
                    serve,
                    app if tracing is None else tracing.around(app),
                    sockets,
                    limits=_http_limits(settings),
                    shutdown_trigger=closed.wait,
                    render_error=_error_renderer(metrics),
                    may_connect=partial(_may_connect, {os.getuid(), *settings.server.unix_socket_uids}),
                )
                up = Up(await serving.start(start_server))
                _log.info("listening", urls=up.urls, backends=sorted(backends))
                task_status.started(up)
                await _wait_for_end(signals, trio.Event() if stop is None else stop, take_new_settings)
                guarding.start_soon(_give_way_to_second, signals)
                service.stopping = True
                await _drain(refs["limiter"], settings)
                tending.cancel_scope.cancel()
            closed.set()
        if tracing is not None:
            await tracing.close()
        guarding.cancel_scope.cancel()
    _log.info("stopped")


def _backends(settings: Settings, environ: Mapping[str, str]) -> dict[str, Backend]:
    """The backends that are enabled. Raises `ConfigError` for a default that its agent cannot honour."""
    backends: dict[str, Backend] = {}
    for name, backend in settings.backends.items():
        if backend.enabled:
            backends[name] = Backend(backend, PROTOCOLS[backend.protocol](name, backend, environ))
            try:
                check(backends[name], with_defaults(Options(), backend), Prompt("x"))
            except Refusal as refusal:
                where = settings.config_file or "configuration"
                raise ConfigError(where, f"backends.{name}.{refusal.param}: {refusal.message}") from None
    return backends


def _service(
    settings: Settings,
    backends: Mapping[str, Backend],
    refs: Mapping[str, Ref],
    observe: Observer,
    worktrees: Worktrees,
    tracing: Tracing,
) -> Service:
    store = StoreClient(refs["store"])
    turns = Turns(
        settings,
        backends,
        store=store,
        limiter=refs["limiter"],
        pools={name: refs[f"pool-{name}"] for name in backends},
        sessions=refs["sessions"],
        tracing=tracing,
    )
    return Service(
        settings,
        turns,
        store=store,
        runs=refs["runs"],
        observe=observe,
        tracing=tracing,
        worktrees=worktrees,
    )


def _tracing(settings: Settings, environ: Mapping[str, str]) -> "OpenTelemetry | None":
    """What sends traces, where that is configured. Raises `ConfigError` if the extra is not installed."""
    if not settings.telemetry.otlp_endpoint:
        return None
    try:
        from clinvoker.otel import OpenTelemetry  # noqa: PLC0415 - 0.2 s and 20 MB, for those who want it
    except ImportError:
        where = settings.config_file or "configuration"
        message = "telemetry.otlp_endpoint: tracing needs `pip install clinvoker[otel]`"
        raise ConfigError(where, message) from None
    return OpenTelemetry(settings.telemetry.otlp_endpoint, environ)


async def _tend(service: Service) -> None:
    """What goes on beside the requests."""
    try:
        await service.turns.budgets.load()
    except Refusal as refusal:
        _log.error("what was used today is not known yet", problem=refusal.message)
    await service.turns.held.watch()


def _bind(settings: Settings) -> list[socket.socket]:
    server = settings.server
    if server.unix_socket:
        # Others can open it only if it lets all of them; who they are is asked when they connect.
        return [bind_unix(server.unix_socket, 0o666 if server.unix_socket_uids else 0o600)]
    return bind(server.host, server.port)


def _may_connect(uids: set[int], stream: trio.SocketStream) -> bool:
    if stream.socket.family != socket.AF_UNIX:
        return True
    uid = peer_uid(stream.socket)
    if uid not in uids:
        _log.warning("a user who may not was turned away", uid=uid)
    return uid in uids


def _places(asked: int) -> int:
    """Connections there is room for: half of the descriptors, the other half is for agents and files (F29)."""
    most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if most == resource.RLIM_INFINITY or asked <= most // 2:
        return asked
    _log.warning("fewer connections than configured: too few descriptors (ulimit -n)", most=most // 2)
    return most // 2


def _http_limits(settings: Settings) -> Limits:
    server = settings.server
    return Limits(
        max_connections=_places(server.max_connections),
        header_time_s=min(Limits().header_time_s, server.read_timeout_secs),
        body_time_s=server.read_timeout_secs,
        keep_alive_s=server.idle_timeout_secs,
        max_body_bytes=server.max_request_body_bytes,
        write_stall_s=min(server.write_stall_secs, server.write_timeout_secs),
        shutdown_grace_s=FLUSH,
    )


async def _wait_for_end(
    signals: AsyncIterator[int], stop: trio.Event, take_new_settings: Callable[[], Awaitable[None]]
) -> None:
    """Wait for the first signal that ends the daemon, or for `stop`; SIGHUP does not, it reloads."""
    async with trio.open_nursery() as nursery:

        async def wait_signal() -> None:
            async for number in signals:
                if number != signal.SIGHUP:
                    _log.info("draining", signal=signal.Signals(number).name)
                    stop.set()
                    return
                nursery.start_soon(take_new_settings)

        nursery.start_soon(wait_signal)
        await stop.wait()
        nursery.cancel_scope.cancel()


async def _give_way_to_second(signals: AsyncIterator[int]) -> None:
    """A second signal ends the daemon at once; the guardian ends its agents."""
    async for number in signals:
        if number != signal.SIGHUP:
            _log.warning("ended by a second signal", signal=signal.Signals(number).name)
            os._exit(128 + number)


async def _drain(limiter: Ref, settings: Settings) -> None:
    """Start no new runs, and give those that go on as long as the whole stop leaves them."""
    server = settings.server
    await limiter.tell(Drain())
    with trio.move_on_after(max(server.shutdown_grace_secs - server.kill_grace_secs - 3 * FLUSH, 0)):
        with closing(await limiter.stream(WaitIdle())) as idle:
            await idle.next()


def _error_renderer(metrics: Metrics) -> RenderError:
    """What the HTTP ground itself refuses: counted, and in the shape of every other error."""

    def render_error(status: int, code: str, message: str, scope: Mapping[str, Any]) -> tuple[bytes, Headers]:
        metrics.count_request(REFUSED, scope.get("method", "other"), status)
        kind = "invalid_request_error" if status < HTTPStatus.INTERNAL_SERVER_ERROR else "api_error"
        request_id = new_request_id()
        path = scope.get("path", "")
        _, body = error_body(Fault(status, code, kind, message), path, request_id)
        headers = [(b"content-type", b"application/json"), *id_headers(path, request_id)]
        return msgspec.json.encode(body), headers

    return render_error


def _observer(metrics: Metrics) -> Observer:
    def observe(record: Record) -> None:
        metrics.observe(record)
        match record:
            case RunEnded():
                _log.info(
                    "run ended",
                    run_id=record.run_id,
                    backend=record.backend,
                    outcome=record.outcome,
                    seconds=round(record.duration, 3),
                )
            case ChildEnded(error=error) if error is not None:
                _log.error("actor crashed", actor=record.child, restarted=record.restarted, exc_info=error)
            case StreamFailed():
                _log.error("stream crashed", actor=record.child, stream=record.stream, error=record.error)
            case ProcessEnded(reason="died" | "failed_to_start"):
                _log.warning("agent gone", backend=record.backend, reason=record.reason, detail=record.detail)
            case _:
                pass

    return observe
