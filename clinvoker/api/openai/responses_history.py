"""What was said up to a response, for the one that goes on from it."""

import math
from collections.abc import Sequence
from contextlib import closing

import trio

from actors.errors import Code, Refusal
from actors.messages import Event, Message, ToolResult, ToolUse
from clinvoker.api.openai.responses_answer import after_of, run_of
from clinvoker.api.openai.responses_past import kept_request
from clinvoker.api.openai.tools import arguments_of
from clinvoker.chat.asked import Asked
from clinvoker.chat.conversation import Role, Said
from clinvoker.chat.held import Part, give_up
from clinvoker.chat.session import otherwise
from clinvoker.service import Service
from clinvoker.store import RunRecord, SessionRecord

PREVIOUS = "previous_response_id"

PATIENCE = 1.0
"""Seconds in which a run that goes tells what it has said so far."""


async def history_of(service: Service, response: str, asked: Asked) -> tuple[str, list[Said]]:
    """What was said up to a response, and the session that can go on from there; empty if none can.

    A run that waits for the results of other calls than those that this request answers has lost its client: it ends.
    Raises `Refusal`.
    """
    run, session = await _found(service, response, asked.caller)
    midst = _Midst()
    if session.options.tools:
        await midst.read(service, response, run)
    if run.ended is None and not midst.calls:
        raise _not_there_yet()
    fits = midst.calls == {result.id for result in asked.chat.newest.results}
    if midst.calls and not (fits and run.backend == asked.choice.backend):
        await give_up(service, run.id, asked.caller, tuple(midst.calls))
    turns = await service.store.turns(session.id)
    number = next((turn.number for turn in turns if turn.run == run.id), 0)
    history: list[Said] = []
    for turn in turns:
        if turn.number == number and midst.calls:
            history += [Said("user", turn.prompt), *midst.said]
        elif turn.number <= number and turn.code is None:
            history += [Said("user", turn.prompt), Said("assistant", turn.output)]
    ended = number == turns[-1].number and not midst.calls
    return (session.id if ended and _can_go_on(service, session, asked) else ""), history


class _Midst:
    """What both sides said in the midst of a run, after its prompt, and the calls that a response ended with, if any."""

    def __init__(self) -> None:
        self.said: list[Said] = []
        self.calls: set[str] = set()
        self._made: set[str] = set()

    async def read(self, service: Service, response: str, run: RunRecord) -> None:
        """Read the run up to the response's end."""
        after = after_of(response)
        part = Part(after)
        with (
            closing(await service.follow(run.id, run.owner)) as follower,
            trio.move_on_after(PATIENCE if run.ended is None else math.inf),
        ):
            async for page in follower:
                before = [entry.content for entry in page if entry.seq <= after]
                self._take([*before, *part.take(page[len(before) :])])
                if part.upto:
                    self.calls = set(part.calls)
                    return

    def _take(self, events: Sequence[Event]) -> None:
        for event in events:
            match event:
                case Message(text):
                    self._add("assistant", text)
                case ToolUse(id=call, name=name, input=given, client=client) if client:
                    self._made.add(call)
                    self._add("assistant", f"\n[call {call} of {name}: {arguments_of(given)}]")
                case ToolResult(id=call, output=output) if call in self._made:
                    self._add("user", f"\n[result of the call {call}]\n{output}")
                case _:
                    pass

    def _add(self, role: Role, text: str) -> None:
        before = self.said.pop().text if self.said and self.said[-1].role == role else ""
        self.said.append(Said(role, before + text if before else text.lstrip("\n")))


async def _found(service: Service, response: str, caller: str) -> tuple[RunRecord, SessionRecord]:
    """The run of a response, and its session. Raises `Refusal`."""
    try:
        await kept_request(service, response)
        run = await service.stored_run(run_of(response), caller)
    except Refusal as refusal:
        if refusal.code is not Code.NOT_FOUND:
            raise
        raise Refusal(refusal.code, "there is no such response", param=PREVIOUS) from None
    if run.session is not None:
        return run, await service.session(run.session, caller)
    if run.ended is None:
        raise _not_there_yet()
    raise Refusal(Code.INVALID_REQUEST, "the response was never begun", param=PREVIOUS)


def _not_there_yet() -> Refusal:
    return Refusal(Code.SESSION_BUSY, "the response is not there yet", param=PREVIOUS, retry_after=1.0)


def _can_go_on(service: Service, session: SessionRecord, asked: Asked) -> bool:
    backend = asked.choice.backend
    model = asked.choice.model or service.backends[backend].settings.model
    same = (session.backend, session.model, session.options.tools) == (backend, model, asked.offered.tools)
    return same and otherwise(asked, session.options, service.turns.policy) is None
