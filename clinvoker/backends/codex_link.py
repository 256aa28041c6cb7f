"""A link to `codex app-server`: JSON-RPC over lines, many threads in one process (codex 0.169.0).

    turn/start ──▶ turn/started … item/* … error{willRetry} … turn/completed
    turn/interrupt ──▶ turn/completed ; thread/backgroundTerminals/clean ends the commands that survive it

Threads know nothing of each other. What happens within a turn is `codex_turn`'s; here is what needs waiting.
"""

import contextlib
from collections.abc import Callable
from functools import partial
from typing import Any

import msgspec
import trio
from msgspec import Struct

from actors.driver import AskLeave, CallTool, LinkClosed, ProtocolBroken, Send
from actors.errors import Code, Refusal
from actors.messages import Options, Prompt, Start
from actors.outbox import Outbox
from clinvoker.backends.codex_asks import Reply, Request, ToolCall, understand
from clinvoker.backends.codex_errors import refusal
from clinvoker.backends.codex_notices import deliver, employer
from clinvoker.backends.codex_options import dynamic_tools, thread_params, tool_result, turn_params
from clinvoker.backends.codex_turn import Turn
from clinvoker.backends.codex_wire import Account, ThreadOpened, TurnStarted
from clinvoker.backends.jsonrpc import Call, Peer, RpcError

PATIENCE_S = 10.0
"""How long codex may retry without getting on. Its own bounds are per request: 24 s in all for a server that is down.

Not less: the built-in provider fails 6 s long over WebSocket before it takes HTTPS, where a proxy knows no WebSocket.
"""

_BEGIN_S = 30.0
"""How long codex may take to accept a turn; it takes 5 ms."""

_INTERRUPTS = 3
_INTERRUPT_PAUSE_S = 0.1
"""How often codex may say that there is no turn to interrupt, and how long it then has to show one, or its end."""

_CLIENT = {"name": "clinvoker", "title": "clinvoker", "version": "1"}


class _Thread(Struct, frozen=True):
    start: Start
    ephemeral: bool


class CodexLink:
    """One live app-server. `has_key` says that the agent's environment holds an API key, which codex does not tell."""

    def __init__(self, send: Send, *, has_key: bool, patience_s: float = PATIENCE_S) -> None:
        self._has_key = has_key
        self._patience_s = patience_s
        self._closed = False
        self._threads: dict[str, _Thread] = {}
        self._turns: dict[str, Turn] = {}
        self._attending: dict[str, Callable[[Call, Request], None]] = {}
        tell = partial(deliver, self._turns)
        self._peer = Peer(send, on_notification=tell, on_request=self._on_request, version=False)

    @property
    def unparsed(self) -> int:
        """Lines so far that were no message of the protocol."""
        return self._peer.unparsed

    def feed(self, line: bytes) -> None:
        """Take one line of codex's output."""
        self._peer.feed(line)

    def closed(self) -> None:
        """The output ended."""
        self._closed = True
        self._peer.closed()
        self._stir()

    async def handshake(self) -> None:
        """Introduce ourselves. Raises `Refusal` when nobody is logged in, which codex itself finds out per turn."""
        # `thread/backgroundTerminals/clean` needs the experimental API.
        params = {"clientInfo": _CLIENT, "capabilities": {"experimentalApi": True}}
        try:
            await self._peer.request("initialize", params, object)
        except RpcError as error:
            raise ProtocolBroken(f"codex refused to initialize: {error.message}") from error
        await self._peer.notify("initialized")
        with contextlib.suppress(RpcError):
            found = await self._peer.request("account/read", {}, Account)
            if found.requires_openai_auth and found.account is None and not self._has_key:
                raise Refusal(Code.NOT_LOGGED_IN, "codex is not logged in: run `codex login`")

    async def serve(self) -> None:
        """Nothing: all of it goes on within turns."""

    async def open(self, options: Options, resume: str | None) -> str:
        """Start a thread, or resume one by its id."""
        params = thread_params(options)
        try:
            if resume is None:
                params |= {"ephemeral": options.ephemeral, **dynamic_tools(options)}
                opened = await self._peer.request("thread/start", params, ThreadOpened)
            else:
                opened = await self._resume({**params, "threadId": resume, "excludeTurns": True})
        except RpcError as error:
            raise refusal(error) from error
        start = Start(opened.model or options.model, opened.cwd or options.workdir)
        self._threads[opened.thread.id] = _Thread(start, options.ephemeral)
        return opened.thread.id

    async def turn(
        self, conversation: str, prompt: Prompt, out: Outbox, ask: AskLeave, call: CallTool
    ) -> None:
        """Run one turn of a thread."""
        thread = self._threads.get(conversation)
        if thread is None:
            raise Refusal(Code.NOT_FOUND, f"codex has no thread {conversation} open")
        if former := self._turns.get(conversation):
            if not former.idle:
                # `turn/start` on a busy thread would steer the turn in hand, and have no end of its own.
                raise Refusal(Code.SESSION_BUSY, "the conversation has a turn in hand")
            await self._stop(former)
        turn = self._turns[conversation] = Turn(conversation, thread.start, out, self._patience_s)
        failure: Exception | None = None
        async with trio.open_nursery() as nursery:

            def attend(asked: Call, known: Request) -> None:
                nursery.start_soon(self._answer, asked, known, turn, ask, call)

            self._attending[conversation] = attend
            try:
                await self._begin(turn, prompt)
                await self._follow(turn)
            except (LinkClosed, ProtocolBroken) as error:
                failure = error  # raised again below: the nursery would wrap it
            finally:
                del self._attending[conversation]
            nursery.cancel_scope.cancel()
        if failure is not None:
            raise failure

    async def interrupt(self, conversation: str) -> None:
        """End the turn in hand, its subagents and their commands."""
        if turn := self._turns.get(conversation):
            await self._stop(turn)

    async def close(self, conversation: str) -> None:
        """Forget a thread."""
        thread = self._threads.pop(conversation, None)
        if thread is None:
            return
        params = {"threadId": conversation}
        with contextlib.suppress(RpcError):
            await self._peer.request("thread/unsubscribe", params, object)
            if not thread.ephemeral:
                # For 60 s yet codex would hold the thread, and no other process could resume it ("active writer").
                await self._peer.request("thread/archive", params, object)
                await self._peer.request("thread/unarchive", params, object)

    async def _resume(self, params: dict[str, Any]) -> ThreadOpened:
        with contextlib.suppress(RpcError):
            return await self._peer.request("thread/resume", params, ThreadOpened)
        # It may have been left archived in the middle of `close`.
        with contextlib.suppress(RpcError):
            await self._peer.request("thread/unarchive", {"threadId": params["threadId"]}, object)
        return await self._peer.request("thread/resume", params, ThreadOpened)

    async def _begin(self, turn: Turn, prompt: Prompt) -> None:
        # Half a line would end the process for all its threads; and the id is what `interrupt` needs.
        with trio.move_on_after(_BEGIN_S, shield=True) as scope:
            try:
                params = turn_params(turn.thread_id, prompt)
                begun = await self._peer.request("turn/start", params, TurnStarted)
            except RpcError as error:
                turn.refuse(refusal(error).code, error.message)
            else:
                turn.id = begun.turn.id
        if scope.cancelled_caught:
            raise ProtocolBroken(f"codex did not begin a turn within {_BEGIN_S:g} s")

    async def _follow(self, turn: Turn) -> None:
        with turn.patience:
            while not (turn.idle or turn.given_up):
                await self._stirred(turn)
        if turn.patience.cancelled_caught:
            turn.give_up()
        with contextlib.suppress(LinkClosed):  # its last event is out, and a dead process needs no stopping
            await self._stop(turn)

    async def _stop(self, turn: Turn) -> None:
        """See to it that codex does nothing more for this turn."""
        for _ in range(_INTERRUPTS):
            with contextlib.suppress(RpcError):  # refused, the turn has just ended, or not quite begun
                if not turn.idle:
                    await self._interrupt(turn.thread_id, turn.id)
                await self._wait_idle(turn)
            with trio.move_on_after(_INTERRUPT_PAUSE_S):
                await self._wait_idle(turn)
        turn.ended()
        # Neither a subagent nor a background command ends with the turn by itself.
        for thread_id, turn_id in [*turn.subagents.items()]:
            if turn_id:
                with contextlib.suppress(RpcError):
                    await self._interrupt(thread_id, turn_id)
        if turn.used_tools or turn.subagents:
            for thread_id in (turn.thread_id, *turn.subagents):
                with contextlib.suppress(RpcError):
                    params = {"threadId": thread_id}
                    await self._peer.request("thread/backgroundTerminals/clean", params, object)
        self._turns.pop(turn.thread_id, None)

    async def _interrupt(self, thread_id: str, turn_id: str) -> None:
        # An empty turn id is whatever turn there is (0.169.0).
        await self._peer.request("turn/interrupt", {"threadId": thread_id, "turnId": turn_id}, object)

    async def _wait_idle(self, turn: Turn) -> None:
        while not turn.idle:
            await self._stirred(turn)

    async def _stirred(self, turn: Turn) -> None:
        """Wait until something happened, and pay what is owed to codex. Raises `LinkClosed`."""
        if self._closed:
            raise LinkClosed
        await turn.stirred.wait()
        turn.stirred = trio.Event()
        await self._peer.settle()

    async def _answer(self, asked: Call, known: Request, turn: Turn, ask: AskLeave, call: CallTool) -> None:
        """Answer a request of codex, after the decision if it wants one."""
        if isinstance(known, Reply):
            result = known.result
        elif isinstance(known, ToolCall):
            result = tool_result(
                await call(known.name, known.given, asked.id if isinstance(asked.id, int) else 0)
            )
        else:
            leave = await ask(turn.describe(known.item_id, known.permission))
            if leave == "deny":
                turn.deny(known.item_id or known.permission.id, known.permission.tool)
            result = known.answers.get(leave, known.answers["deny"])
        with contextlib.suppress(LinkClosed):  # whoever follows the turn sees that too
            await self._peer.respond(asked.id, result)

    def _on_request(self, call: Call) -> None:
        try:
            known = understand(call)
        except msgspec.DecodeError:
            known = None
        turn = known and (self._turns.get(known.thread_id) or employer(self._turns, known.thread_id))
        if known and turn and (attend := self._attending.get(turn.thread_id)):
            attend(call, known)
        else:
            # What nobody can answer is denied by an error, or codex would wait for ever.
            self._peer.decline(call)
            self._stir()

    def _stir(self) -> None:
        for turn in self._turns.values():
            turn.stirred.set()
