"""The paths of the surface, and what is done under each."""

from typing import Annotated

from msgspec import Meta, Struct
from quart import Response, request
from quart_trio import QuartTrio

from clinvoker.api.anthropic import models
from clinvoker.api.anthropic.counting import estimate
from clinvoker.api.anthropic.events import Message, StreamEvent
from clinvoker.api.anthropic.messages import answer
from clinvoker.api.anthropic.request import CountRequest, MessagesRequest
from clinvoker.api.exchange import body, caller, reply
from clinvoker.api.operation import SSE, TURN, Operation, Parameter
from clinvoker.api.requests import decode, whole_number
from clinvoker.chat.models import resolve
from clinvoker.chat.turn import Chats

BASES = ("/anthropic/v1", "/anthropic", "/anthropic/v1/v1")
"""The SDKs add `/v1` to whatever base URL they are given, with or without one; other clients add nothing."""


class TokenCount(Struct, frozen=True):
    """The answer to `count_tokens`."""

    input_tokens: int


class Welcome(Struct, frozen=True):
    """What is under the base URL itself, which clients look at to see whether anybody is there."""

    messages: str = "/anthropic/v1/messages"


def register(app: QuartTrio, chats: Chats) -> None:
    """Add the routes."""
    service = chats.service

    @Operation(
        summary="Messages",
        body=MessagesRequest,
        answers=(Message,),
        streams={SSE: StreamEvent},
        refusals=(404, *TURN),
    )
    async def messages() -> Response:
        return await answer(chats)

    @Operation(
        summary="About how many tokens a message has",
        body=CountRequest,
        answers=(TokenCount,),
        refusals=(404,),
    )
    async def count_tokens() -> Response:
        asked = decode(await body(), CountRequest)
        resolve(service.backends, asked.model)
        return reply(TokenCount(estimate(asked)))

    @Operation(
        summary="The backends, as models",
        answers=(models.ModelList,),
        parameters=(
            Parameter("limit", "how many, 20 without it", Annotated[int, Meta(ge=1, le=models.MOST)]),
            Parameter("after_id", "only those after this one"),
            Parameter("before_id", "only those before this one"),
        ),
    )
    async def model_list() -> Response:
        limit = whole_number(request.args.get("limit", "20"), "limit", 1, models.MOST)
        after, before = request.args.get("after_id"), request.args.get("before_id")
        return reply(models.page(service.backends_of(caller()), limit, after, before))

    @Operation(summary="A model", answers=(models.ModelInfo,), refusals=(404,))
    async def model(name: str) -> Response:
        return reply(models.info(service.backends_of(caller()), name))

    @Operation(summary="Where this API is", answers=(Welcome,))
    async def welcome() -> Response:
        return reply(Welcome())

    for base in BASES:
        app.post(f"{base}/messages")(messages)
        app.post(f"{base}/messages/count_tokens")(count_tokens)
        app.get(f"{base}/models")(model_list)
        app.get(f"{base}/models/<path:name>")(model)
    for path in ("/anthropic", "/anthropic/", "/anthropic/v1"):
        app.get(path)(welcome)
