"""A link to one live ACP agent: many sessions in one process, each with at most one turn in hand.

    initialize -> session/new | session/resume | session/load [-> the model] -> session/prompt ... -> session/close

Source: agentclientprotocol.com, protocol version 1; what one agent does differently is marked with its name and version.
"""

import re
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import msgspec
import trio
from msgspec import Raw, Struct

from actors.driver import AskLeave, CallTool, LinkClosed, ProtocolBroken, Send
from actors.errors import Code, Refusal
from actors.messages import Complete, Failed, Options, Prompt, Start, ToolAnswer
from actors.outbox import Outbox
from clinvoker.backends import acp_errors
from clinvoker.backends.acp_leave import CANCELLED, Questions
from clinvoker.backends.acp_model import choose_model, offers_models
from clinvoker.backends.acp_tools import guarded
from clinvoker.backends.acp_turn import Turn
from clinvoker.backends.acp_wire import (
    VERSION,
    AgentCapabilities,
    Initialized,
    PromptEnd,
    Session,
    decode_commands,
    decode_permission,
    decode_update,
)
from clinvoker.backends.jsonrpc import Call, Peer, Request, RpcError
from clinvoker.mcp.gate import Gate
from clinvoker.mcp.server import NAME

CLIENT = {"fs": {"readTextFile": False, "writeTextFile": False}, "terminal": False}
"""What we do for an agent: nothing; it has its own files and terminals."""

GUARD = "\u200b"
"""What keeps a prompt from being a command of the agent's own; a zero-width space, which JavaScript does not trim.

gemini 0.61.0 and opencode 1.18.33 trim the prompt and then look for a slash (gemini also for `$`): blanks do not help.
"""

_COMMAND = re.compile(r"[\s\ufeff]*[/$]")


class About(Struct, frozen=True):
    """What an agent has said that it can do."""

    images: bool
    resume: bool
    tools: bool
    model: bool | None
    """Whether its model can be chosen; None until it has opened a session."""


class _Conversation:
    def __init__(self, options: Options, *, is_new: bool) -> None:
        self.workdir = options.workdir
        self.tools: frozenset[str] = frozenset()
        """What the agent may call the client's."""
        self.call: CallTool | None = None
        """Who runs the client's tools in the turn in hand."""
        self.key = ""
        """Of the offer of those tools."""
        self.model = ""
        self.cost: float | None = 0.0 if is_new else None
        """What the session had cost before the turn in hand; None when that was in another process."""
        self.turn: Turn | None = None
        self.prompt: Request | None = None
        """The prompt in hand, which a turn that was cut short leaves behind for `interrupt`."""
        self.questions: Questions | None = None
        """What it asks leave for, left behind likewise."""
        self.heard = 0
        """Updates so far."""


class AcpLink:
    """The state of the connection."""

    def __init__(self, send: Send, model: str, learn: Callable[[About], None] = lambda _: None) -> None:
        self._peer = Peer(send, on_notification=self._notified, on_request=self._requested)
        self._model = model
        self._learn = learn
        self._agent = AgentCapabilities()
        self._models: bool | None = None
        self._commandless: set[str] = set()
        """Sessions whose agent said that it has no commands: with an empty list, perhaps before it is asked anything."""
        self._talks: dict[str, _Conversation] = {}
        self._opening = trio.Lock()
        """Gemini 0.61.0 locks its list of directories for each new session, and who meets the lock waits for seconds."""
        self._gate = Gate()

    def feed(self, line: bytes) -> None:
        """Take one line of the agent's output."""
        self._peer.feed(line)

    def closed(self) -> None:
        """The output ended."""
        self._peer.closed()

    @property
    def unparsed(self) -> int:
        """Lines so far that were no message of the protocol."""
        return self._peer.unparsed

    async def handshake(self) -> None:
        """Learn what the agent can do."""
        params = {"protocolVersion": VERSION, "clientCapabilities": CLIENT}
        try:
            told = await self._peer.request("initialize", params, Initialized)
        except RpcError as error:
            raise acp_errors.refusal(error) from None
        if told.protocol_version != VERSION:
            raise ProtocolBroken(f"it speaks version {told.protocol_version} of ACP, not {VERSION}")
        self._agent = told.agent_capabilities
        self._tell()

    async def serve(self) -> None:
        """Let the client's tools be called."""
        await self._gate.serve()

    async def open(self, options: Options, resume: str | None) -> str:
        """Open a session, or resume one, and set its model."""
        talk = _Conversation(options, is_new=resume is None)
        params: dict[str, Any] = {"cwd": options.workdir, "mcpServers": self._offer(talk, options)}
        try:
            conversation = await self._open(talk, options, params, resume)
        except BaseException:
            self._gate.withdraw(talk.key)
            raise
        self._talks[conversation] = talk
        return conversation

    async def turn(
        self, conversation: str, prompt: Prompt, out: Outbox, ask: AskLeave, call: CallTool
    ) -> None:
        """Run one turn."""
        talk = self._talks.get(conversation)
        if talk is None:
            raise Refusal(Code.NOT_FOUND, f"no conversation {conversation} is open")
        params = {"sessionId": conversation, "prompt": self._blocks(conversation, prompt)}
        turn = talk.turn = Turn(out, Start(talk.model, talk.workdir), talk.tools)
        request = talk.prompt = self._peer.prepare("session/prompt", params)
        questions = talk.questions = Questions(self._peer, turn)
        talk.call = call
        try:
            await request.send()
            turn.begin()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(questions.answer, ask)
                ending = await _ending(request, turn, talk.cost)
                nursery.cancel_scope.cancel()
        finally:
            talk.turn = talk.call = None
        talk.prompt = talk.questions = None
        talk.cost = talk.cost if turn.cost is None else turn.cost
        if ending is None:
            raise LinkClosed
        out.put(ending)

    async def interrupt(self, conversation: str) -> None:
        """Cancel the prompt in hand and wait for its result: the agent has then ended its tools."""
        talk = self._talks.get(conversation)
        if talk is None or talk.prompt is None:
            return
        request, talk.prompt = talk.prompt, None
        if not request.is_sent:
            self._peer.forget(request)
        elif not request.is_answered:
            await self._peer.notify("session/cancel", {"sessionId": conversation})
            if talk.questions is not None:
                talk.questions.withdraw()
            await self._peer.settle()
            with suppress(RpcError):
                await request.answer(object)

    async def close(self, conversation: str) -> None:
        """Let the agent forget a session, if it can."""
        if talk := self._talks.pop(conversation, None):
            self._gate.withdraw(talk.key)
        self._commandless.discard(conversation)
        if self._agent.session_capabilities.close is not None:
            with suppress(RpcError):
                await self._peer.request("session/close", {"sessionId": conversation}, object)

    def _tell(self) -> None:
        agent = self._agent
        resume = agent.load_session or agent.session_capabilities.resume is not None
        self._learn(About(agent.prompt_capabilities.image, resume, self._takes_tools, self._models))

    @property
    def _takes_tools(self) -> bool:
        return self._agent.mcp_capabilities is not None

    # Sessions.

    def _offer(self, talk: _Conversation, options: Options) -> list[dict[str, Any]]:
        """Offer the client's tools; returns the MCP servers of the session."""
        if not options.tools:
            return []
        if not self._takes_tools:
            raise Refusal(Code.UNSUPPORTED, "this agent can call no tools of a client's", param="tools")

        async def call(name: str, given: Any, number: int) -> ToolAnswer:  # noqa: ANN401 - any JSON
            if talk.call is None or talk.turn is None:
                return ToolAnswer("", "no turn is in hand", is_error=True)
            client = talk.call
            await talk.turn.tools.called()
            return guarded(await client(name, given, number))

        # opencode 1.18.33 knows the servers of one directory by their names, whichever session they are of.
        others = sum(1 for other in self._talks.values() if other.key and other.workdir == talk.workdir)
        name = f"{NAME}_{others + 1}" if others else NAME
        talk.key, server = self._gate.offer(name, options.tools, call)
        # As gemini 0.61.0 and opencode 1.18.33 name them.
        talk.tools = frozenset(
            f"{prefix}{name}_{tool.name}" for tool in options.tools for prefix in ("mcp_", "")
        )
        return [server]

    async def _open(
        self, talk: _Conversation, options: Options, params: dict[str, Any], resume: str | None
    ) -> str:
        if resume is None:
            async with self._opening:
                session = await self._new(params)
            conversation = session.session_id
            self._models = offers_models(session)
            self._tell()
        else:
            conversation = resume
            session = await self._resume(talk, resume, params)
        try:
            talk.model = await choose_model(self._peer, conversation, session, options.model or self._model)
        except Refusal:
            await self.close(conversation)
            raise
        return conversation

    async def _new(self, params: dict[str, Any]) -> Session:
        try:
            session = await self._peer.request("session/new", params, Session)
        except RpcError as error:
            raise acp_errors.refusal(error) from None
        if not session.session_id:
            raise ProtocolBroken("session/new was answered without a sessionId")
        return session

    async def _resume(self, talk: _Conversation, resume: str, params: dict[str, Any]) -> Session:
        """Bring a session back: without its history where that is possible, since we have no use for it."""
        if self._agent.session_capabilities.resume is not None:
            method = "session/resume"
        elif self._agent.load_session:
            method = "session/load"
        else:
            raise Refusal(Code.NOT_FOUND, "this agent does not resume conversations")
        self._talks[resume] = talk
        try:
            session = await self._peer.request(method, {"sessionId": resume, **params}, Session)
            if method == "session/load":
                await self._silence(talk)
        except RpcError as error:
            del self._talks[resume]
            reason = acp_errors.failed(error).message
            raise Refusal(Code.NOT_FOUND, f"the agent has no conversation {resume}: {reason}") from None
        return session

    async def _silence(self, talk: _Conversation) -> None:
        """Wait until the history has been told: gemini 0.61.0 answers session/load first and tells it then.

        Names that begin with an underscore are the protocol's room for extensions; what is not known gets an error.
        """
        heard = -1
        while heard != talk.heard:
            heard = talk.heard
            with suppress(RpcError):
                await self._peer.request("_clinvoker/are_you_there", {}, object)

    def _blocks(self, conversation: str, prompt: Prompt) -> list[dict[str, str]]:
        if prompt.schema is not None:
            raise Refusal(Code.UNSUPPORTED, "ACP agents take no output schema", param="schema")
        if prompt.images and not self._agent.prompt_capabilities.image:
            raise Refusal(Code.UNSUPPORTED, "this agent takes no images", param="images")
        text = prompt.text
        if conversation not in self._commandless and _COMMAND.match(text):
            text = GUARD + text
        images = [
            {"type": "image", "mimeType": image.media_type, "data": image.data} for image in prompt.images
        ]
        return [{"type": "text", "text": text}, *images]

    # What the agent sends of itself.

    def _notified(self, method: str, params: Raw) -> None:
        if method != "session/update":
            return
        told = decode_update(params)
        if told.update.session_update == "available_commands_update":
            # Silence is no such word: gemini 0.61.0 has commands and names none.
            has_none = decode_commands(params).update.available_commands == []
            (self._commandless.add if has_none else self._commandless.discard)(told.session_id)
        talk = self._talks.get(told.session_id)
        if talk is not None:
            talk.heard += 1
            # What comes with the turn's result, or after it, belongs to no turn.
            if talk.turn is not None and talk.prompt is not None and not talk.prompt.is_answered:
                talk.turn.update(told.update, params)

    def _requested(self, call: Call) -> None:
        if call.method != "session/request_permission":
            self._peer.decline(call)
            return
        try:
            request = decode_permission(call.params)
        except msgspec.DecodeError:
            self._peer.unparsed += 1
            self._peer.owe(call, CANCELLED)
            return
        talk = self._talks.get(request.session_id)
        if talk is None or talk.turn is None or talk.questions is None:
            self._peer.owe(call, CANCELLED)
        else:
            talk.questions.put(call, request)


async def _ending(request: Request, turn: Turn, cost: float | None) -> Complete | Failed | None:
    """Wait for the turn's end; None when the link ended first."""
    try:
        return turn.end(await request.answer(PromptEnd), cost)
    except RpcError as error:
        return acp_errors.failed(error)
    except ProtocolBroken as broken:
        return Failed(Code.PROTOCOL, str(broken))
    except LinkClosed:
        return None
