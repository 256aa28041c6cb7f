"""The web application: every surface's routes, one error handler, and what each response carries."""

import secrets
import time

from msgspec import Struct
from quart import Response, g, request
from quart_trio import QuartTrio
from werkzeug.exceptions import HTTPException

import clinvoker
from actors.errors import ActorDied, Code, Refusal
from actors.pool import Status
from actors.supervisor import Count
from clinvoker.api import native
from clinvoker.api.errors import render
from clinvoker.api.native import reply
from clinvoker.backends.probe import Versions
from clinvoker.http import quartfix
from clinvoker.logs import get_logger
from clinvoker.metrics import Metrics
from clinvoker.service import Service

_log = get_logger("clinvoker.api")


class Availability(Struct, frozen=True):
    """A backend in the health answer."""

    name: str
    available: bool


class Actors(Struct, frozen=True):
    """How the supervision tree fares."""

    alive: int
    restarts: int


class Health(Struct, frozen=True):
    """`GET /health`. `degraded`: no backend is available. Times in seconds and milliseconds."""

    status: str
    version: str
    uptime: float
    uptime_ms: int
    backends: list[Availability]
    actors: Actors


def make_app(service: Service, metrics: Metrics) -> QuartTrio:
    """Build the application."""
    app = QuartTrio("clinvoker", static_folder=None)
    quartfix.fix(app)
    native.register(app, service, Versions())
    _register_health(app, service, metrics)
    _register_hooks(app, metrics)
    _register_errors(app, service)
    return app


def _register_health(app: QuartTrio, service: Service, metrics: Metrics) -> None:
    began = time.monotonic()

    @app.get("/health")
    async def health() -> Response:  # pyright: ignore[reportUnusedFunction] - quart keeps it
        availabilities: list[Availability] = []
        for name, pool in service.pools.items():
            status = await pool.ask(Status())
            availabilities.append(Availability(name, status.available))
        alive = await service.runs.ask(Count()) + await service.sessions.ask(Count())
        up = time.monotonic() - began
        good = any(each.available for each in availabilities)
        return reply(
            Health(
                status="ok" if good else "degraded",
                version=clinvoker.__version__,
                uptime=round(up, 3),
                uptime_ms=int(up * 1000),
                backends=availabilities,
                actors=Actors(alive + len(service.pools) + 3, metrics.restarts),
            )
        )

    if service.settings.server.metrics_enabled:

        @app.get("/metrics")
        async def scrape() -> Response:  # pyright: ignore[reportUnusedFunction]
            return Response(metrics.render(), content_type="text/plain; version=0.0.4; charset=utf-8")


def _register_hooks(app: QuartTrio, metrics: Metrics) -> None:
    @app.before_request
    async def identify() -> None:  # pyright: ignore[reportUnusedFunction]
        g.request_id = f"req_{secrets.token_hex(12)}"

    @app.after_request
    async def finish(response: Response) -> Response:  # pyright: ignore[reportUnusedFunction]
        response.headers["x-request-id"] = g.request_id
        route = request.url_rule.rule if request.url_rule is not None else "none"
        metrics.requests.labels(route, request.method, str(response.status_code)).inc()
        return response


def _register_errors(app: QuartTrio, service: Service) -> None:
    @app.errorhandler(Refusal)
    async def refused(refusal: Refusal) -> Response:  # pyright: ignore[reportUnusedFunction]
        return _error(refusal)

    @app.errorhandler(ActorDied)
    async def died(death: ActorDied) -> Response:  # pyright: ignore[reportUnusedFunction]
        if service.stopping:
            return _error(Refusal(Code.DRAINING, "the daemon is shutting down", retry_after=5.0))
        _log.error("an actor died under a request", error=str(death), request_id=g.request_id)
        return _error(Refusal(Code.INTERNAL, f"the daemon failed; its log has {g.request_id}"))

    @app.errorhandler(HTTPException)
    async def http_error(error: HTTPException) -> Response:  # pyright: ignore[reportUnusedFunction]
        match error.code:
            case 404:
                return _error(Refusal(Code.NOT_FOUND, f"there is no {request.path}"))
            case 405:
                return _error(
                    Refusal(Code.METHOD_NOT_ALLOWED, f"{request.path} does not take {request.method}")
                )
            case _:
                return _error(Refusal(Code.INVALID_REQUEST, error.description or error.name))

    @app.errorhandler(Exception)
    async def failed(error: Exception) -> Response:  # pyright: ignore[reportUnusedFunction]
        _log.error("a request failed", exc_info=error, request_id=g.request_id)
        return _error(Refusal(Code.INTERNAL, f"the daemon failed; its log has {g.request_id}"))


def _error(refusal: Refusal) -> Response:
    status, body, headers = render(refusal)
    return Response(body, status=status, headers=headers)
