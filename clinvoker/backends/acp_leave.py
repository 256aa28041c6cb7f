"""What an ACP agent asks leave for during one turn, from its request to our answer (`session/request_permission`)."""

import math
from contextlib import suppress
from uuid import uuid4

import trio
from msgspec import Struct

from actors.driver import AskLeave, LinkClosed
from actors.messages import Leave, Permission
from clinvoker.backends.acp_turn import Turn
from clinvoker.backends.acp_wire import PermissionOption, PermissionRequest
from clinvoker.backends.jsonrpc import Call, Peer

CANCELLED = {"outcome": {"outcome": "cancelled"}}
"""The answer that chooses nothing: what the protocol wants for every question of a turn that is cancelled."""

_LEAVES: dict[str, Leave] = {"allow_once": "allow", "allow_always": "allow_always", "reject_once": "deny"}


class _Question(Struct):
    call: Call
    request: PermissionRequest


class Questions:
    """The questions of one turn; the agent may ask several at once."""

    def __init__(self, peer: Peer, turn: Turn) -> None:
        self._peer = peer
        self._turn = turn
        self._open: dict[int | str, Call] = {}
        self._ask, self._asked = trio.open_memory_channel[_Question](math.inf)

    def put(self, call: Call, request: PermissionRequest) -> None:
        """Take a question."""
        self._open[call.id] = call
        self._ask.send_nowait(_Question(call, request))

    async def answer(self, ask: AskLeave) -> None:
        """Answer questions as they come, until cancelled."""
        async with trio.open_nursery() as nursery:
            async for question in self._asked:
                nursery.start_soon(self._answer, question, ask)

    def withdraw(self) -> None:
        """Owe the agent an answer to each question that has none, for its turn is cancelled."""
        for call in self._open.values():
            self._peer.owe(call, CANCELLED)
        self._open.clear()

    async def _answer(self, question: _Question, ask: AskLeave) -> None:
        call, tool_call = question.call, question.request.tool_call
        choices = _choices(question.request.options)
        leave: Leave = "allow"
        if not self._turn.tools.is_clients(tool_call):
            name, what = self._turn.asked(tool_call)
            leave = await ask(Permission(f"perm_{uuid4().hex[:12]}", name, what, tuple(choices)))
            if leave == "deny":
                self._turn.tools.denied(tool_call.tool_call_id)
        del self._open[call.id]
        chosen = choices.get(leave)
        outcome = {"outcome": {"outcome": "selected", "optionId": chosen}} if chosen else CANCELLED
        with suppress(LinkClosed):
            await self._peer.respond(call.id, outcome)


def _choices(options: list[PermissionOption]) -> dict[Leave, str]:
    """Return the agent's own name of each answer that it takes; a no it always takes, if need be as a cancellation."""
    offered = {leave: option.option_id for option in reversed(options) if (leave := _LEAVES.get(option.kind))}
    offered.setdefault("deny", "")
    return {leave: offered[leave] for leave in _LEAVES.values() if leave in offered}
