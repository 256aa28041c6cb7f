"""`/responses`: made, told again from any event, cancelled."""

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Annotated

from msgspec import Meta
from msgspec.structs import replace
from quart import Response, request
from quart_trio import QuartTrio

from actors.errors import Code, Refusal
from actors.messages import Event
from clinvoker.api.exchange import body, caller, reply_in_time
from clinvoker.api.exchange import reply as answer_json
from clinvoker.api.openai.asking import asked_of
from clinvoker.api.openai.messages import chat_of
from clinvoker.api.openai.responses_answer import AnswerTextConfig, ResponseAnswer, response_id
from clinvoker.api.openai.responses_history import history_of
from clinvoker.api.openai.responses_input import InputItems, Limit, Order, input_items, page_of, paging_of
from clinvoker.api.openai.responses_past import cancel, keep_request, look, retold
from clinvoker.api.openai.responses_references import dereferenced
from clinvoker.api.openai.responses_request import (
    Format,
    ResponsesRequest,
    messages_of,
    schema_of,
    tools_of,
)
from clinvoker.api.openai.responses_stream import ResponseEvents, Written, frames
from clinvoker.api.openai.streams import headers_of, hold
from clinvoker.api.openai.tools import of_response
from clinvoker.api.operation import SSE, TURN, Operation, Parameter
from clinvoker.api.requests import decode
from clinvoker.chat.asked import Asked
from clinvoker.chat.reading import Reply
from clinvoker.chat.turn import Chats
from clinvoker.http.stream import streaming

MOST_DIGITS = 15
"""Of the number of an event."""

Keep = Callable[[], Awaitable[None]]

Seq = Annotated[int, Meta(ge=0, lt=10**MOST_DIGITS)]


def register(app: QuartTrio, chats: Chats) -> None:
    """Add the routes."""
    service = chats.service

    @app.post("/openai/v1/responses")
    @Operation(
        summary="Responses",
        body=ResponsesRequest,
        answers=(ResponseAnswer,),
        streams={SSE: Written},
        refusals=(404, *TURN),
    )
    async def responses() -> Response:  # pyright: ignore[reportUnusedFunction] - quart keeps it
        raw = await body()
        told = await dereferenced(service, decode(raw, ResponsesRequest), caller())
        reply = hold(await chats.begin(await _asked(chats, told, raw)))
        response = _begun(told, reply)
        # What is asked for by its id must be known by it.
        keep = partial(keep_request, service, reply, response)
        if told.background:
            await keep()
        if told.background and not told.stream:
            return _answer(response, reply)
        patience = service.settings.server.heartbeat_secs
        if told.stream:
            await reply.opening(patience)
            told_so_far = ResponseEvents(response)
            return streaming(_frames(reply, told_so_far, keep, patience), SSE, headers_of([reply]))
        return await reply_in_time(service, partial(_whole, response, reply, keep), headers_of([reply]))

    @app.get("/openai/v1/responses/<response>")
    @Operation(
        summary="A response, as far as it has come",
        answers=(ResponseAnswer,),
        streams={SSE: Written},
        parameters=(
            Parameter("stream", "`true`: its events, from the first on"),
            Parameter("starting_after", "number of the last event that the reader has", Seq),
        ),
        refusals=(404,),
    )
    async def get_response(response: str) -> Response:  # pyright: ignore[reportUnusedFunction]
        after = _starting_after()
        if request.args.get("stream", "").lower() == "true":
            patience = service.settings.server.heartbeat_secs
            told = await retold(service, response, caller(), after, patience)
            return streaming(told, SSE)
        return answer_json(await look(service, response, caller()))

    @app.post("/openai/v1/responses/<response>/cancel")
    @Operation(summary="Stop a response", answers=(ResponseAnswer,), refusals=(404,))
    async def cancel_response(response: str) -> Response:  # pyright: ignore[reportUnusedFunction]
        return answer_json(await cancel(service, response, caller()))

    @app.get("/openai/v1/responses/<response>/input_items")
    @Operation(
        summary="What a response's agent was told",
        answers=(InputItems,),
        parameters=(
            Parameter("limit", "how many, 20 without it", Limit),
            Parameter("order", "`asc`: the first one first", Order),
            Parameter("after", "id of the last item that the reader has"),
        ),
        refusals=(404,),
    )
    async def get_input_items(response: str) -> Response:  # pyright: ignore[reportUnusedFunction]
        paging = paging_of(request.args)
        return answer_json(page_of(await input_items(service, response, caller()), paging))


async def _asked(chats: Chats, told: ResponsesRequest, raw: bytes) -> Asked:
    asked = asked_of(
        chats.service,
        told,
        chat_of(messages_of(told), "input"),
        raw,
        max_tokens=told.max_output_tokens,
        schema=schema_of(told),
        tools=of_response(tools_of(told), told.tool_choice, parallel=told.parallel_tool_calls),
    )
    if told.background and told.store is False:
        message = "a response in the background is asked for later: it must be stored"
        raise Refusal(Code.INVALID_REQUEST, message, param="store")
    if told.background and asked.schema is not None and not chats.can(asked).schema:
        message = f"{asked.choice.backend} can answer by a schema only while somebody waits"
        raise Refusal(Code.UNSUPPORTED, message, param="background")
    if told.previous_response_id:
        session, history = await history_of(chats.service, told.previous_response_id, asked)
        more = asked.chat.history  # which the session has not had
        chat = replace(asked.chat, history=(*history, *more))
        asked = replace(asked, chat=chat, follows="" if more else session)
    return replace(asked, detach=bool(told.background))


async def _whole(
    response: ResponseAnswer, reply: Reply, keep: Keep, patience: float
) -> ResponseAnswer | None:
    answer = await reply.collect(patience)
    if answer is None:
        return None
    await keep()
    events = ResponseEvents(response)
    events.take(list(answer.events), time.time())
    return events.response


async def _frames(reply: Reply, events: ResponseEvents, keep: Keep, patience: float) -> AsyncIterator[bytes]:
    yield frames(events.begin())
    kept = False
    while True:
        if not await reply.more(patience):
            yield frames([events.alive()])
            continue
        batch: list[Event] | None = await anext(reply, None)
        if batch is None:
            return
        if not kept:
            kept = True
            await keep()  # now that the run is
        if written := frames(events.take(batch, time.time())):
            yield written


def _starting_after() -> int:
    text = request.args.get("starting_after", "")
    if not text:
        return -1
    if not (text.isascii() and text.isdecimal() and len(text) <= MOST_DIGITS):
        message = "starting_after must be the number of an event"
        raise Refusal(Code.INVALID_REQUEST, message, param="starting_after")
    return int(text)


def _begun(told: ResponsesRequest, reply: Reply) -> ResponseAnswer:
    return ResponseAnswer(
        id=response_id(reply.identity, reply.after),
        created_at=int(time.time()),
        status="in_progress",
        model=told.model,
        background=bool(told.background),
        instructions=told.instructions,
        max_output_tokens=told.max_output_tokens,
        metadata=told.metadata or {},
        previous_response_id=told.previous_response_id,
        text=AnswerTextConfig((told.text and told.text.format) or Format()),
        store=told.store is not False,
    )


def _answer(response: ResponseAnswer, reply: Reply) -> Response:
    answer = answer_json(response)
    answer.headers.update(headers_of([reply]))
    return answer
