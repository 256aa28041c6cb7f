"""`POST /chat/completions`."""

import itertools
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from functools import partial

import trio
from msgspec import UNSET, UnsetType
from msgspec.structs import replace
from quart import Response
from quart_trio import QuartTrio

from actors.errors import Code, Refusal
from actors.messages import Complete, Event, Failed, Message, Thinking, ToolUse, Usage
from clinvoker.api.exchange import body, reply_in_time
from clinvoker.api.openai.answers import (
    DONE,
    AnswerMessage,
    ChatCompletion,
    Choice,
    Chunk,
    ChunkChoice,
    Delta,
    UsageInfo,
    call_of,
    call_pieces,
    finish_reason,
    frame,
    usage_of,
)
from clinvoker.api.openai.asking import asked_of, check_modalities, schema_of, tools_of
from clinvoker.api.openai.messages import chat_of
from clinvoker.api.openai.requests import ChatRequest
from clinvoker.api.openai.streams import collect, failing, headers_of, hold, opened, streamed
from clinvoker.api.operation import SSE, TURN, Operation
from clinvoker.api.requests import decode
from clinvoker.chat.asked import Asked
from clinvoker.chat.reading import Answer, Reply
from clinvoker.chat.turn import Chats

ROLE = Delta(content="", role="assistant")
NOTHING = Delta()


def register(app: QuartTrio, chats: Chats) -> None:
    """Add the route."""

    @app.post("/openai/v1/chat/completions")
    @Operation(
        summary="Chat completions",
        body=ChatRequest,
        answers=(ChatCompletion,),
        streams={SSE: Chunk},
        last_data="[DONE]",
        refusals=(404, *TURN),
    )
    async def chat_completions() -> Response:  # pyright: ignore[reportUnusedFunction] - quart keeps it
        raw = await body()
        told = decode(raw, ChatRequest)
        check_modalities(told)
        asked = asked_of(
            chats.service,
            told,
            chat_of(told.messages),
            raw,
            max_tokens=told.max_completion_tokens or told.max_tokens,
            stop=told.stop,
            schema=schema_of(told.response_format),
            tools=tools_of(told),
        )
        replies = await begin(chats, asked, told.n or 1)
        if not told.stream:
            whole = partial(_whole, told.model, replies)
            return await reply_in_time(chats.service, whole, headers_of(replies))
        await opened(chats.service, replies)
        usage = told.stream_options is not None and bool(told.stream_options.include_usage)
        return streamed(chats.service, _chunks(told.model, replies, usage=usage), replies)


async def begin(chats: Chats, asked: Asked, number: int) -> list[Reply]:
    """Start the turns of a request that asks for so many answers, all at once."""
    if number > 1 and asked.wishes.session:
        raise Refusal(Code.INVALID_REQUEST, "a session takes one turn at a time", param="n")
    replies: dict[int, Reply] = {}
    refusals: list[Refusal] = []

    async def begin_one(index: int) -> None:
        try:
            replies[index] = hold(await chats.begin(replace(asked, number=index)))
        except Refusal as refusal:
            refusals.append(refusal)

    async with trio.open_nursery() as nursery:
        for index in range(number):
            nursery.start_soon(begin_one, index)
    if refusals:
        raise refusals[0]
    return [replies[index] for index in range(number)]


def completion_id(reply: Reply) -> str:
    """The answer's id: the run's."""
    return f"chatcmpl-{reply.identity.run_id.removeprefix('run_')}"


async def _whole(model: str, replies: Sequence[Reply], patience: float) -> ChatCompletion | None:
    answers = await collect(replies, patience)
    if answers is None:
        return None
    choices = [
        Choice(index, _message(answer), finish_reason(answer.complete))
        for index, answer in enumerate(answers)
    ]
    usage = usage_of(*(answer.complete.token_usage for answer in answers))
    return ChatCompletion(completion_id(replies[0]), int(time.time()), model, choices, usage)


def _message(answer: Answer) -> AnswerMessage:
    calls = [call_of(use) for use in answer.calls]
    return AnswerMessage(
        answer.text or (None if calls else ""),
        reasoning_content=answer.thinking or UNSET,
        tool_calls=calls or UNSET,
    )


async def _chunks(model: str, replies: Sequence[Reply], *, usage: bool) -> AsyncIterator[bytes]:
    """The turns run all at once; their answers go out one after the other."""
    head = Chunk(completion_id(replies[0]), int(time.time()), model, [], usage=None if usage else UNSET)
    usages: list[Usage] = []
    for index, reply in enumerate(replies):
        yield _frame(head, index, ROLE)
        calls = itertools.count()
        async for events in reply:
            if written := b"".join(_frames(head, index, events, calls)):
                yield written
            last = events[-1]
            if isinstance(last, Complete):
                usages.append(last.token_usage)
            if isinstance(last, Failed):
                async for words in failing(last):
                    yield words
    total: UsageInfo | UnsetType = usage_of(*usages) if usage else UNSET
    yield (frame(replace(head, usage=total)) if usage else b"") + DONE


def _frames(head: Chunk, index: int, events: list[Event], calls: Iterator[int]) -> list[bytes]:
    frames: list[bytes] = []
    for event in events:
        if isinstance(event, Message):
            frames.append(_frame(head, index, Delta(content=event.text)))
        elif isinstance(event, Thinking):
            frames.append(_frame(head, index, Delta(reasoning_content=event.text)))
        elif isinstance(event, ToolUse) and event.client:
            pieces = call_pieces(next(calls), event)
            frames += [_frame(head, index, Delta(tool_calls=[piece])) for piece in pieces]
        elif isinstance(event, Complete):
            choice = ChunkChoice(index, NOTHING, finish_reason(event))
            frames.append(frame(replace(head, choices=[choice])))
    return frames


def _frame(head: Chunk, index: int, delta: Delta) -> bytes:
    return frame(replace(head, choices=[ChunkChoice(index, delta)]))
