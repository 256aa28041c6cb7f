"""Responses that were made before: looked at, told again, gone on from. They are the runs that are stored."""

import time
from collections.abc import AsyncIterator
from contextlib import closing, suppress

import trio

from actors.errors import ActorDied, Code, Refusal
from actors.messages import Entry
from actors.run import Look
from clinvoker.api.openai.responses_answer import ResponseAnswer, response_id
from clinvoker.api.openai.responses_stream import ResponseEvents, frames
from clinvoker.chat.asked import Asked
from clinvoker.chat.conversation import Said
from clinvoker.follower import Follower
from clinvoker.http.stream import current_request_stack
from clinvoker.service import Service

PREVIOUS = "previous_response_id"


async def history_of(service: Service, run_id: str, asked: Asked) -> tuple[str, list[Said]]:
    """What was said up to a response, and the session that can go on from there; empty if none can.

    Raises `Refusal`.
    """
    try:
        run = await service.stored_run(run_id, asked.caller)
    except Refusal as refusal:
        raise Refusal(refusal.code, "there is no such response", param=PREVIOUS) from None
    if run.ended is None:
        raise Refusal(Code.SESSION_BUSY, "the response is not there yet", param=PREVIOUS, retry_after=1.0)
    if run.session is None:
        raise Refusal(Code.INVALID_REQUEST, "the response was never begun", param=PREVIOUS)
    turns = await service.store.turns(run.session)
    upto = next((turn.number for turn in turns if turn.run == run_id), 0)
    history: list[Said] = []
    for turn in turns:
        if turn.number <= upto and turn.code is None:
            history += [Said("user", turn.prompt), Said("assistant", turn.output)]
    session = await service.session(run.session, asked.caller)
    goes_on = upto == turns[-1].number and session.backend == asked.choice.backend
    return (session.id if goes_on and session.model == _model(service, asked) else ""), history


async def look(service: Service, run_id: str, caller: str, *, to_end: bool = False) -> ResponseAnswer:
    """A response as far as it has come; `to_end` waits for its end. Raises `Refusal`."""
    with closing(await _follow(service, run_id, caller)) as follower:
        response = await _begun(service, follower, caller)
        if not to_end and await _going(service, run_id, caller):
            return response
        events = ResponseEvents(response)
        async for page in follower:
            events.take([entry.content for entry in page])
        return events.response


async def retold(
    service: Service, run_id: str, caller: str, after: int, patience: float
) -> AsyncIterator[bytes]:
    """A response's events after number `after`, to its end. Raises `Refusal` at once."""
    follower = await _follow(service, run_id, caller)
    current_request_stack().callback(follower.close)
    events = ResponseEvents(await _begun(service, follower, caller))
    return _retelling(follower, events, after, patience)


async def _retelling(
    follower: Follower, events: ResponseEvents, after: int, patience: float
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
        elif written := frames(events.take([entry.content for entry in page]), after):
            yield written


async def _follow(service: Service, run_id: str, caller: str) -> Follower:
    try:
        return await service.follow(run_id, caller)
    except Refusal as refusal:
        raise Refusal(refusal.code, "there is no such response", param="response_id") from None


async def _begun(service: Service, follower: Follower, caller: str) -> ResponseAnswer:
    identity = follower.identity
    record = await service.store.run(identity.run_id, caller)
    return ResponseAnswer(
        id=response_id(identity),
        created_at=int(record.began if record is not None else time.time()),
        status="in_progress",
        model=identity.backend,
        background=identity.detached,
    )


async def _going(service: Service, run_id: str, caller: str) -> bool:
    with suppress(ActorDied):
        run = await service.live_run(run_id, caller)
        return run is not None and await run.ask(Look()) is None
    return False


def _model(service: Service, asked: Asked) -> str:
    return asked.choice.model or service.backends[asked.choice.backend].settings.model
