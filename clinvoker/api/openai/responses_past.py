"""Responses that were made before: looked at, told again, gone on from. They are the runs that are stored."""

import math
import time
from collections.abc import AsyncIterator
from contextlib import closing, suppress

import trio

from actors.errors import ActorDied, Code, Refusal
from actors.messages import Complete, Entry, Message, ToolUse
from actors.run import Look
from clinvoker.api.openai.responses_answer import ResponseAnswer, after_of, response_id, run_of
from clinvoker.api.openai.responses_stream import ResponseEvents, frames
from clinvoker.api.openai.tools import arguments_of
from clinvoker.chat.asked import Asked
from clinvoker.chat.conversation import Said
from clinvoker.chat.held import TOOL_USE, Part
from clinvoker.chat.session import otherwise
from clinvoker.follower import Follower
from clinvoker.http.stream import current_request_stack
from clinvoker.service import Service

GLANCE = 0.05
"""Seconds in which a run tells what it has said so far."""

PREVIOUS = "previous_response_id"


async def history_of(service: Service, response: str, asked: Asked) -> tuple[str, list[Said]]:
    """What was said up to a response, and the session that can go on from there; empty if none can.

    Nothing, if it waits for the results of tools that this request brings. Raises `Refusal`.
    """
    run_id = run_of(response)
    results = asked.chat.newest.results
    try:
        run = await service.stored_run(run_id, asked.caller)
    except Refusal as refusal:
        raise Refusal(refusal.code, "there is no such response", param=PREVIOUS) from None
    if run.ended is None and results:
        return "", []
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
        elif turn.run == run_id and results:
            # The tools were run for a turn that is gone.
            history += [Said("user", turn.prompt), Said("assistant", await _told(service, run_id, asked))]
    session = await service.session(run.session, asked.caller)
    goes_on = upto == turns[-1].number and session.backend == asked.choice.backend
    same = session.model == _model(service, asked) and session.options.tools == asked.offered.tools
    same = same and otherwise(asked, session.options, service.turns.policy) is None
    return (session.id if goes_on and same else ""), history


async def look(service: Service, name: str, caller: str, *, to_end: bool = False) -> ResponseAnswer:
    """A response as far as it has come; `to_end` waits for its end. Raises `Refusal`."""
    with closing(await _follow(service, name, caller)) as follower:
        response = await _begun(service, follower, caller, after_of(name))
        going = not to_end and await _going(service, run_of(name), caller)
        events, part = ResponseEvents(response), Part(after_of(name))
        # One that goes may have ended all the same, with calls that wait for the client: that is told already.
        with trio.move_on_after(GLANCE if going else math.inf):
            async for page in follower:
                events.take(part.take(page))
                if part.upto:
                    events.take([Complete(TOOL_USE)])
                    return events.response
        return response if going else events.response


async def retold(
    service: Service, name: str, caller: str, after: int, patience: float
) -> AsyncIterator[bytes]:
    """A response's events after number `after`, to its end. Raises `Refusal` at once."""
    follower = await _follow(service, name, caller)
    current_request_stack().callback(follower.close)
    part = Part(after_of(name))
    events = ResponseEvents(await _begun(service, follower, caller, after_of(name)))
    return _retelling(follower, part, events, after, patience)


async def _retelling(
    follower: Follower, part: Part, events: ResponseEvents, after: int, patience: float
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
            told.append(Complete(TOOL_USE))
        if written := frames(events.take(told), after):
            yield written
        if part.upto:
            return


async def _told(service: Service, run_id: str, asked: Asked) -> str:
    """What a run that broke off had said, and which of the client's tools it had called."""
    said: list[str] = []
    with closing(await service.follow(run_id, asked.caller)) as follower:
        async for page in follower:
            for entry in page:
                match entry.content:
                    case Message(text):
                        said.append(text)
                    case ToolUse(id=call, name=name, input=given, client=client) if client:
                        said.append(f"\n[call {call} of {name}: {arguments_of(given)}]")
                    case _:
                        pass
    return "".join(said)


async def _follow(service: Service, name: str, caller: str) -> Follower:
    try:
        return await service.follow(run_of(name), caller, after_of(name))
    except Refusal as refusal:
        raise Refusal(refusal.code, "there is no such response", param="response_id") from None


async def _begun(service: Service, follower: Follower, caller: str, after: int) -> ResponseAnswer:
    identity = follower.identity
    record = await service.store.run(identity.run_id, caller)
    return ResponseAnswer(
        id=response_id(identity, after),
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
