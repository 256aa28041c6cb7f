"""`GET /models` and `/models/{id}`: the backends are the models."""

import time
from typing import Literal

from msgspec import Struct
from quart import Response
from quart_trio import QuartTrio

from clinvoker.api.exchange import caller, reply
from clinvoker.api.operation import Operation
from clinvoker.chat.models import listed, resolve
from clinvoker.service import Service


class ModelInfo(Struct, frozen=True):
    """A model."""

    id: str
    created: int
    object: Literal["model"] = "model"
    owned_by: str = "clinvoker"


class ModelList(Struct, frozen=True):
    """`GET /models`."""

    data: list[ModelInfo]
    object: Literal["list"] = "list"


def register(app: QuartTrio, service: Service) -> None:
    """Add the routes."""
    created = int(time.time())

    @app.get("/openai/v1/models")
    @Operation(summary="The backends, as models", answers=(ModelList,))
    async def openai_models() -> Response:  # pyright: ignore[reportUnusedFunction] - quart keeps it
        return reply(ModelList([ModelInfo(name, created) for name in listed(service.backends_of(caller()))]))

    @app.get("/openai/v1/models/<path:model>")
    @Operation(summary="A model", answers=(ModelInfo,), refusals=(404,))
    async def openai_model(model: str) -> Response:  # pyright: ignore[reportUnusedFunction]
        resolve(service.backends_of(caller()), model)
        return reply(ModelInfo(model, created))
