"""Responses that were made before: looked at, told again. They are the runs that are stored."""

import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Generator
from contextlib import closing, contextmanager, suppress
from datetime import datetime
from functools import partial

import msgspec
import trio

from actors.errors import ActorDied, Code, Refusal
from actors.messages import Complete, Entry
from actors.run import Look
from clinvoker.api.openai.responses_answer import ResponseAnswer, after_of, response_id, run_of
from clinvoker.api.openai.responses_stream import ResponseEvents, frames
from clinvoker.chat.held import TOOL_USE, Part, hold
from clinvoker.chat.reading import Reply
from clinvoker.follower import Follower
from clinvoker.http.stream import current_request_stack
from clinvoker.service import Service
from clinvoker.store import AddNote

GLANCE = 0.05
"""Seconds in which a run tells what it has said so far."""


async def keep_request(service: Service, reply: Reply, response: ResponseAnswer) -> None:
    """Keep what a request said of its response, once its run is stored. Raises `Refusal`."""
    note = AddNote(reply.identity.run_id, reply.after, msgspec.json.encode(response))
    await service.store.write(note)


async def kept_request(service: Service, name: str) -> ResponseAnswer | None:
    """The response as its request had it, if that was kept. Raises `Refusal` if it was not to be asked for again."""
    note = await service.store.note(run_of(name), after_of(name))
    response = msgspec.json.decode(note, type=ResponseAnswer) if note is not None else None
    if response is not None and not response.store:
        raise Refusal(Code.NOT_FOUND, "the response was not to be stored")
    return response


async def cancel(service: Service, name: str, caller: str) -> ResponseAnswer:
    """Stop a response; returns what it has come to. Raises `Refusal`."""
    with named():
        await kept_request(service, name)
        await service.cancel(run_of(name), caller)
    return await look(service, name, caller, to_end=True)


async def look(service: Service, name: str, caller: str, *, to_end: bool = False) -> ResponseAnswer:
    """A response as far as it has come; `to_end` waits for its end. Raises `Refusal`."""
    with closing(await _follow(service, name, caller)) as follower:
        response = await _begun(service, follower, name)
        going = not to_end and await _going(service, run_of(name), caller)
        events, part = ResponseEvents(response), Part(after_of(name))
        # One that goes may have ended all the same, with calls that wait for the client: that is told already.
        with trio.move_on_after(GLANCE if going else math.inf):
            async for page in follower:
                told = part.take(page)
                events.take(told, _time(page, part))
                if part.upto:
                    await _tell(service, name, caller, part)
                    events.take([Complete(TOOL_USE)], _time(page, part))
                    return events.response
        return response if going else events.response


async def retold(
    service: Service, name: str, caller: str, after: int, patience: float
) -> AsyncIterator[bytes]:
    """A response's events after number `after`, to its end. Raises `Refusal` at once."""
    follower = await _follow(service, name, caller)
    current_request_stack().callback(follower.close)
    part = Part(after_of(name))
    events = ResponseEvents(await _begun(service, follower, name))
    tell = partial(_tell, service, name, caller, part)
    return _retelling(follower, part, events, after, patience, tell)


async def _retelling(
    follower: Follower,
    part: Part,
    events: ResponseEvents,
    after: int,
    patience: float,
    tell: Callable[[], Awaitable[None]],
) -> AsyncIterator[bytes]:
    yield frames(events.begin(), after)
    while True:
        page: list[Entry] | None = []
        with trio.move_on_after(patience):
            page = await anext(follower, None)
        if page is None:
            return
        if not page:
            yield frames([events.alive()])
            continue
        told = part.take(page)
        if part.upto:
            await tell()
            told.append(Complete(TOOL_USE))
        if written := frames(events.take(told, _time(page, part)), after):
            yield written
        if part.upto:
            return


async def _tell(service: Service, name: str, caller: str, part: Part) -> None:
    """Have the run wait for the client, which is told of its calls here if it was not before."""
    await hold(service, run_of(name), caller, tuple(part.calls), part.upto)


async def _follow(service: Service, name: str, caller: str) -> Follower:
    with named():
        return await service.follow(run_of(name), caller, after_of(name))


@contextmanager
def named() -> Generator[None]:
    """What is said of runs is said of responses."""
    try:
        yield
    except Refusal as refusal:
        if refusal.code is not Code.NOT_FOUND:
            raise
        raise Refusal(refusal.code, "there is no such response", param="response_id") from None


async def _begun(service: Service, follower: Follower, name: str) -> ResponseAnswer:
    with named():
        kept = await kept_request(service, name)
    if kept is not None:
        return kept
    # The run was no response's, or is not yet more than begun.
    identity = follower.identity
    record = await service.store.run(identity.run_id, identity.owner)
    return ResponseAnswer(
        id=response_id(identity, after_of(name)),
        created_at=int(record.began if record is not None else time.time()),
        status="in_progress",
        model=identity.backend,
        background=identity.detached,
    )


def _time(page: list[Entry], part: Part) -> float:
    """When the last entry of the page came that is part of the answer, in seconds since 1970."""
    last = page[part.upto - page[0].seq] if part.upto else page[-1]
    return datetime.fromisoformat(last.timestamp).timestamp()


async def _going(service: Service, run_id: str, caller: str) -> bool:
    with suppress(ActorDied):
        run = await service.live_run(run_id, caller)
        return run is not None and await run.ask(Look()) is None
    return False
