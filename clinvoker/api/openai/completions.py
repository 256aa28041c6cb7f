"""`POST /completions`: the legacy completions, each a chat of one message."""

import time
from collections.abc import AsyncIterator, Sequence
from functools import partial
from typing import Literal

from msgspec import UNSET, Struct, UnsetType
from msgspec.structs import replace
from quart import Response
from quart_trio import QuartTrio

from actors.errors import Code, Refusal
from actors.messages import Complete, Event, Failed, Message, Usage
from clinvoker.api.exchange import body, reply_in_time
from clinvoker.api.openai.answers import DONE, FinishReason, UsageInfo, finish_reason, frame, usage_of
from clinvoker.api.openai.asking import asked_of
from clinvoker.api.openai.chat import begin
from clinvoker.api.openai.requests import CompletionRequest
from clinvoker.api.openai.streams import collect, failing, headers_of, opened, streamed
from clinvoker.api.operation import SSE, TURN, Operation
from clinvoker.api.requests import check_text, decode
from clinvoker.chat.conversation import Said, make_chat
from clinvoker.chat.reading import Reply
from clinvoker.chat.turn import Chats


class TextChoice(Struct, frozen=True):
    """One of the answers, or a piece of it."""

    index: int
    text: str
    finish_reason: FinishReason | None = None
    logprobs: None = None


class Completion(Struct, frozen=True):
    """A text completion, or a piece of it."""

    id: str
    created: int
    model: str
    choices: list[TextChoice]
    object: Literal["text_completion"] = "text_completion"
    usage: UsageInfo | UnsetType | None = UNSET


def register(app: QuartTrio, chats: Chats) -> None:
    """Add the route."""

    @app.post("/openai/v1/completions")
    @Operation(
        summary="Text completions, the legacy kind",
        body=CompletionRequest,
        answers=(Completion,),
        streams={SSE: Completion},
        last_data="[DONE]",
        refusals=(404, *TURN),
    )
    async def completions() -> Response:  # pyright: ignore[reportUnusedFunction] - quart keeps it
        raw = await body()
        told = decode(raw, CompletionRequest)
        if told.suffix:
            raise Refusal(Code.UNSUPPORTED, "agents write no text before a suffix", param="suffix")
        prompt = told.prompt if isinstance(told.prompt, str) else told.prompt[0]
        check_text(prompt, "prompt")
        if not prompt:
            raise Refusal(Code.INVALID_REQUEST, "prompt is empty", param="prompt")
        chat = make_chat((), [Said("user", prompt)])
        asked = asked_of(chats.service, told, chat, raw, max_tokens=told.max_tokens, stop=told.stop)
        replies = await begin(chats, asked, told.n or 1)
        before = prompt if told.echo else ""
        if not told.stream:
            whole = partial(_whole, told.model, replies, before)
            return await reply_in_time(chats.service, whole, headers_of(replies))
        await opened(chats.service, replies)
        usage = told.stream_options is not None and bool(told.stream_options.include_usage)
        return streamed(chats.service, _chunks(told.model, replies, before, usage=usage), replies)


async def _whole(model: str, replies: Sequence[Reply], before: str, patience: float) -> Completion | None:
    answers = await collect(replies, patience)
    if answers is None:
        return None
    choices = [
        TextChoice(index, before + answer.text, finish_reason(answer.complete))
        for index, answer in enumerate(answers)
    ]
    usage = usage_of(*(answer.complete.token_usage for answer in answers))
    return replace(_head(model, replies), choices=choices, usage=usage)


async def _chunks(model: str, replies: Sequence[Reply], before: str, *, usage: bool) -> AsyncIterator[bytes]:
    head = replace(_head(model, replies), usage=None if usage else UNSET)
    usages: list[Usage] = []
    for index, reply in enumerate(replies):
        if before:
            yield frame(replace(head, choices=[TextChoice(index, before)]))
        async for events in reply:
            if written := b"".join(_frames(head, index, events)):
                yield written
            last = events[-1]
            if isinstance(last, Complete):
                usages.append(last.token_usage)
            if isinstance(last, Failed):
                async for words in failing(last):
                    yield words
    yield (frame(replace(head, usage=usage_of(*usages))) if usage else b"") + DONE


def _frames(head: Completion, index: int, events: list[Event]) -> list[bytes]:
    choices = [
        TextChoice(index, event.text)
        if isinstance(event, Message)
        else TextChoice(index, "", finish_reason(event))
        for event in events
        if isinstance(event, Message | Complete)
    ]
    return [frame(replace(head, choices=[choice])) for choice in choices]


def _head(model: str, replies: Sequence[Reply]) -> Completion:
    return Completion(f"cmpl-{replies[0].identity.run_id.removeprefix('run_')}", int(time.time()), model, [])
