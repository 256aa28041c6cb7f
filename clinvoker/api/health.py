"""`GET /health` and `GET /metrics`: how the daemon fares, for load balancers and for Prometheus."""

import time

from msgspec import Struct
from quart import Response
from quart_trio import QuartTrio

import clinvoker
from actors.errors import Refusal
from actors.supervisor import Count
from clinvoker.api.backends import why_unavailable
from clinvoker.api.exchange import reply
from clinvoker.api.operation import Operation
from clinvoker.metrics import Metrics
from clinvoker.service import Service

STATIC = 4
"""The static actors beside the pools: store, limiter, and the supervisors of sessions and of runs."""


class Availability(Struct, frozen=True):
    """A backend in the health answer."""

    name: str
    available: bool


class Stored(Struct, frozen=True):
    """Whether sessions can be kept now, and how many are."""

    available: bool
    session_count: int


class Actors(Struct, frozen=True):
    """How the supervision tree fares."""

    alive: int
    restarts: int


class Health(Struct, frozen=True):
    """`GET /health`. `degraded`: no backend is available, or nothing can be kept. Times in seconds and milliseconds."""

    status: str
    version: str
    uptime: float
    uptime_ms: int
    backends: list[Availability]
    session_store: Stored
    actors: Actors


def register(app: QuartTrio, service: Service, metrics: Metrics) -> None:
    """Add the routes."""
    began = time.monotonic()

    @app.get("/health")
    @Operation(summary="How the daemon fares", answers=(Health,), needs_key=False)
    async def health() -> Response:  # pyright: ignore[reportUnusedFunction] - quart keeps it
        availabilities = [
            Availability(name, not await why_unavailable(service, name)) for name in service.pools
        ]
        stored = await _stored(service)
        alive = await service.runs.ask(Count()) + await service.sessions.ask(Count())
        up = time.monotonic() - began
        good = stored.available and any(each.available for each in availabilities)
        return reply(
            Health(
                status="ok" if good else "degraded",
                version=clinvoker.__version__,
                uptime=round(up, 3),
                uptime_ms=int(up * 1000),
                backends=availabilities,
                session_store=stored,
                actors=Actors(alive + len(service.pools) + STATIC, metrics.restarts),
            )
        )

    if service.settings.server.metrics_enabled:

        @app.get("/metrics")
        @Operation(summary="Series for Prometheus", texts=("text/plain",))
        async def scrape() -> Response:  # pyright: ignore[reportUnusedFunction]
            return Response(metrics.render(), content_type="text/plain; version=0.0.4; charset=utf-8")


async def _stored(service: Service) -> Stored:
    try:
        return Stored(True, (await service.store.counts()).sessions)  # noqa: FBT003 - named by the struct
    except Refusal:
        return Stored(False, 0)  # noqa: FBT003
