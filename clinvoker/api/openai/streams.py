"""How the streams of this surface go out, and how they fail."""

from collections.abc import AsyncIterator, Sequence

import trio
from quart_trio.wrappers import TrioResponse

from actors.messages import Failed
from clinvoker.api.dialects import openai_error
from clinvoker.api.errors import fault_of
from clinvoker.api.openai.answers import frame
from clinvoker.chat.reading import Answer, Reply
from clinvoker.http.exchange import CutShort
from clinvoker.http.stream import current_request_stack, streaming
from clinvoker.service import Service

HEARTBEAT = b": ka\n"
"""A comment without a blank line: with one, the SDKs' parsers would see an event without data."""


async def opened(service: Service, replies: Sequence[Reply]) -> None:
    """Wait until each agent is heard, so that a failure can still be the request's answer. Raises `Refusal`."""
    for reply in replies:
        await reply.opening(service.settings.server.heartbeat_secs)


def streamed(service: Service, body: AsyncIterator[bytes], replies: Sequence[Reply]) -> TrioResponse:
    """The answer as a stream."""
    return streaming(
        body,
        "text/event-stream",
        headers_of(replies),
        heartbeat=HEARTBEAT,
        heartbeat_s=service.settings.server.heartbeat_secs,
    )


async def collect(replies: Sequence[Reply], patience: float) -> list[Answer] | None:
    """The answers, if all are there in time. Raises `Refusal`."""
    deadline = trio.current_time() + patience
    answers: list[Answer] = []
    for reply in replies:
        answer = await reply.collect(deadline - trio.current_time())
        if answer is None:
            return None
        answers.append(answer)
    return answers


def headers_of(replies: Sequence[Reply]) -> dict[str, str]:
    """Where the run and its session are found by the native API."""
    identity = replies[0].identity
    return {"x-clinvoker-run": identity.run_id, "x-clinvoker-session": identity.session_id}


def hold(reply: Reply) -> Reply:
    """The reply, let go of when the request is over."""
    current_request_stack().callback(reply.close)
    return reply


async def failing(failed: Failed) -> AsyncIterator[bytes]:
    """The stream's last words: the error, and no end."""
    yield frame({"error": openai_error(fault_of(failed.code, failed.message))})
    raise CutShort
