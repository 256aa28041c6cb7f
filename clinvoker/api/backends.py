"""What is configured, installed and able to do what: `GET /api/v1/backends` (contract, section 3)."""

from typing import Any

import msgspec
import trio
from msgspec import Struct
from quart import Response
from quart_trio import QuartTrio

from actors.lease import Status
from clinvoker.api.exchange import caller, reply
from clinvoker.api.operation import Operation
from clinvoker.backends.probe import Versions
from clinvoker.service import Service


class Runners(Struct, frozen=True):
    """Live processes of a backend."""

    idle: int
    busy: int


class BackendInfo(Struct, frozen=True):
    """A backend as `GET /backends` tells it."""

    name: str
    available: bool
    version: str | None
    reason: str | None
    models: tuple[str, ...]
    capabilities: dict[str, Any]
    runners: Runners


class BackendList(Struct, frozen=True):
    """`GET /backends`."""

    backends: list[BackendInfo]


def register(app: QuartTrio, service: Service, versions: Versions) -> None:
    """Add the route."""

    @app.get("/api/v1/backends")
    @Operation(summary="What is configured, installed and able to do what", answers=(BackendList,))
    async def backends() -> Response:  # pyright: ignore[reportUnusedFunction]
        described: dict[str, BackendInfo] = {}

        async def describe(name: str) -> None:
            described[name] = await _describe(service, versions, name)

        names = service.backends_of(caller())
        async with trio.open_nursery() as nursery:
            for name in names:
                nursery.start_soon(describe, name)
        return reply(BackendList([described[name] for name in names]))


async def why_unavailable(service: Service, name: str) -> str:
    """Why no turn of this backend would find an agent now; empty if one would."""
    return await service.turns.why_unavailable(name)


async def _describe(service: Service, versions: Versions, name: str) -> BackendInfo:
    backend = service.backends[name]
    version = await versions.of(backend)
    status = await service.pools[name].ask(Status())
    reason = await why_unavailable(service, name)
    return BackendInfo(
        name=name,
        available=not reason,
        version=version,
        reason=reason or None,
        models=backend.settings.models,
        capabilities=msgspec.to_builtins(backend.driver.capabilities),
        runners=Runners(status.idle, status.busy),
    )
