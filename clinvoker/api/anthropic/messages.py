"""`POST /messages`: from the request to the answer, whole or as a stream."""

from collections.abc import AsyncIterator, Mapping
from functools import partial

from quart import Response, request

from actors.run import new_id
from clinvoker.api.anthropic.counting import estimate
from clinvoker.api.anthropic.events import Broken, Message
from clinvoker.api.anthropic.reading import read_chat, read_schema, read_tools
from clinvoker.api.anthropic.request import MessagesRequest
from clinvoker.api.anthropic.sequence import Sequence, frames, whole
from clinvoker.api.exchange import body, caller, client, reply_in_time, request_id
from clinvoker.api.requests import decode, fingerprint
from clinvoker.backends.choice import Backend
from clinvoker.chat.asked import Asked, attempt_of, wishes_of
from clinvoker.chat.flights import Attempt
from clinvoker.chat.models import resolve
from clinvoker.chat.reading import Reply
from clinvoker.chat.sources import source_of
from clinvoker.chat.turn import Chats
from clinvoker.http.exchange import CutShort
from clinvoker.http.stream import current_request_stack, streaming

SSE = "text/event-stream; charset=utf-8"

PING = b'event: ping\ndata: {"type": "ping"}\n\n'
"""Claude Code takes a stream for dead that says nothing for 15 seconds, and comments say nothing to it."""

PING_SECS = 10.0

PATIENCE = 5.0
"""Seconds in which a failure can still become an HTTP status: then the stream begins, and it is told in there."""


async def answer(chats: Chats) -> Response:
    """Answer the message at hand. Raises `Refusal`."""
    raw = await body()
    asked = decode(raw, MessagesRequest)
    turn = _turn(chats.service.backends, asked, raw)
    sequence = Sequence(
        new_id("msg"),
        asked.model,
        prompt_tokens=estimate(asked),
        request_id=request_id(),
        thinking=_shows_thinking(asked),
    )
    run = await chats.begin(turn)
    current_request_stack().callback(run.close)
    if not asked.stream:
        return await reply_in_time(chats.service, partial(_whole, run, sequence), _headers(run))
    await run.opening(PATIENCE)
    return streaming(
        _frames(run, sequence),
        SSE,
        _headers(run),
        heartbeat=PING,
        # While the run lives: when it has ended so has this stream, and its silence has a limit of its own.
        heartbeat_s=min(PING_SECS, chats.service.settings.server.heartbeat_secs),
    )


def _turn(backends: Mapping[str, Backend], asked: MessagesRequest, raw: bytes) -> Asked:
    """What a request asks for. Raises `Refusal` naming the field at fault."""
    headers = {name.lower(): value for name, value in request.headers.items()}
    choice = resolve(backends, asked.model)
    named = {
        "metadata": asked.metadata,
        "session_id": asked.session_id,
        "prompt_cache_key": asked.prompt_cache_key,
        "conversation": asked.conversation,
    }
    return Asked(
        read_chat(asked),
        choice,
        caller=caller(),
        wishes=wishes_of(headers),
        source=source_of(headers, named),
        max_tokens=asked.max_tokens,
        schema=read_schema(asked),
        offered=read_tools(asked),
        stop=tuple(asked.stop_sequences or ()),
        # Claude Code sends it again without the stream, when a stream broke off.
        body_hash=fingerprint(raw, "anthropic", without="stream"),
        attempt=_attempt(headers, asked),
        client=client(),
    )


def _attempt(headers: Mapping[str, str], asked: MessagesRequest) -> Attempt:
    """Claude Code does not count: it repeats a stream that broke off, and asks without one in the end (2.1.330)."""
    if "x-claude-code-session-id" in headers:
        return "repeated" if asked.stream else "further"
    return attempt_of(headers)


def _shows_thinking(asked: MessagesRequest) -> bool:
    thinking = asked.thinking
    return thinking is None or (thinking.type != "disabled" and thinking.display != "omitted")


async def _whole(run: Reply, sequence: Sequence, patience: float) -> Message | None:
    answer = await run.collect(patience)
    if answer is None:
        return None
    return whole(event for content in answer.events for event in sequence.take(content, run.stopped_by))


async def _frames(run: Reply, sequence: Sequence) -> AsyncIterator[bytes]:
    async for batch in run:
        events = [event for content in batch for event in sequence.take(content, run.stopped_by)]
        if events:
            yield frames(events)
        if events and isinstance(events[-1], Broken):
            raise CutShort


def _headers(run: Reply) -> dict[str, str]:
    return {"x-clinvoker-run": run.identity.run_id, "x-clinvoker-session": run.identity.session_id}
