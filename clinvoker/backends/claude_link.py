"""A link to one claude process, which holds one conversation (claude 2.1.330).

handshake   a control request that changes nothing: its answer says that the process listens
open        model and permission mode, by control requests
turn        the first one goes out behind `initialize`, which takes the system prompt and the schema, once for all:
            a second `initialize` is acknowledged and ignored. Hence a spare can be made without knowing either,
            and a schema is the whole conversation's. It also names our MCP server, which the agent then talks to
            by control requests: the client's tools.
interrupt   by control request; the turn's result says that the agent is idle again
"""

from contextlib import suppress
from typing import Any, Final
from uuid import uuid4

import msgspec
import trio

from actors.driver import AskLeave, CallTool, LinkClosed, ProtocolBroken, Send
from actors.errors import Code, Refusal
from actors.messages import ApprovalMode, Options, Prompt, ToolAnswer
from actors.outbox import Outbox
from clinvoker.backends.claude_control import ClaudeControl
from clinvoker.backends.claude_input import content, decision, permission
from clinvoker.backends.claude_turn import ClaudeTurn
from clinvoker.backends.claude_wire import (
    Answered,
    CanUseTool,
    Interrupted,
    Line,
    McpMessage,
    Result,
    answer_line,
    control_line,
    read,
    read_line,
    user_line,
)
from clinvoker.mcp.server import NAME, McpServer, Message

_MODES: Final[dict[ApprovalMode, str | None]] = {
    "default": None,  # the user's own settings say
    "auto": None,  # never bypassPermissions, which root may not have: what it asks is answered with yes
    "none": "dontAsk",
    "always": "default",
}


MESSAGE_S: Final = 30.0
"""How long a call of a tool waits for the end of the model's message, which may never be told."""


class ClaudeLink:
    """The protocol's state: answers awaited, the turn in hand, whether the agent is idle."""

    def __init__(self, send: Send, conversation: str, *, resumed: bool) -> None:
        self.unparsed = 0
        self._control = ClaudeControl(send)
        self._conversation = conversation
        self._resumed = resumed
        self._stillborn: str | None = None
        """Why the process ended before it was asked anything: an unknown conversation, for one."""
        self._options = Options()
        self._initialized = False
        self._schema: dict[str, Any] | None = None
        self._turn: ClaudeTurn | None = None
        self._running: str | None = None
        """The message whose result is to come; it outlives a turn that nobody listens to any more."""
        self._asked: list[tuple[str, CanUseTool]] = []
        self._messages: list[tuple[str, Message]] = []
        """To our MCP server, unanswered."""
        self._asking: dict[str, trio.CancelScope] = {}
        self._total_cost: float | None = None if resumed else 0.0

    # What the agent says.

    def feed(self, line: bytes) -> None:
        """Take one line of the agent's output."""
        try:
            head, line = read_line(line)
            self._take(head, line)
        except msgspec.DecodeError:
            self.unparsed += 1

    def closed(self) -> None:
        """The output ended."""
        self._control.close()

    def _take(self, head: Line, line: bytes) -> None:
        match head.type:
            case "result":
                self._end(read(Result, line))
            case "control_response" | "control_request" | "control_cancel_request":
                self._take_control(head)
            case "":
                self.unparsed += 1
            case _:
                if self._turn is not None:
                    spoke = self._turn.speaks
                    self._turn.feed(head, line)
                    if self._turn.cut_short or spoke != self._turn.speaks:
                        self._control.wake()

    def _take_control(self, head: Line) -> None:
        if head.type == "control_response":
            self._control.answer(read(Answered, head.response))
        elif head.type == "control_cancel_request":
            if head.request_id in self._asking:
                self._asking[head.request_id].cancel()
        else:
            asked = read(CanUseTool, head.request)
            if asked.subtype == "can_use_tool":
                self._asked.append((head.request_id, asked))
            elif asked.subtype == "mcp_message":
                self._messages.append((head.request_id, read(McpMessage, head.request).message))
        self._control.wake()

    def _end(self, result: Result) -> None:
        """Take the result of the turn in hand; others are of messages that the CLI made up itself."""
        if self._running is None:
            self._stillborn = "; ".join(result.errors or ()) or result.result
            return
        if result.user_message_uuids and self._running not in result.user_message_uuids:
            return
        self._running = None
        cost = self._cost(result)
        if self._turn is not None:
            self._turn.end(result, cost)
        self._control.wake()

    def _cost(self, result: Result) -> float | None:
        """Return what this turn cost: the total is of the process, or of the session, as the version has it."""
        before, self._total_cost = self._total_cost, result.total_cost_usd
        if result.model_usage_since_last_result is not None:
            return sum(usage.cost_usd for usage in result.model_usage_since_last_result.values())
        if result.total_cost_usd is None or before is None:
            return None
        return max(0.0, result.total_cost_usd - before)

    # What is asked of it.

    async def handshake(self) -> None:
        """Wait until the process answers; any answer will do, so a version that knows no `mcp_status` is as good."""
        try:
            await self._control.request("mcp_status")
        except LinkClosed:
            if self._stillborn is not None and self._resumed:
                raise Refusal(Code.NOT_FOUND, self._stillborn, param="session_id") from None
            raise

    async def serve(self) -> None:
        """Nothing: all of it goes on within turns."""

    async def open(self, options: Options, resume: str | None) -> str:
        """Set what can be set on a running process. The conversation was named when it was launched."""
        if resume is not None and resume != self._conversation:
            raise ProtocolBroken("a conversation is resumed by a process launched for it")
        self._options = options
        if options.model:
            answered = await self._control.request("set_model", model=options.model)
            if answered.subtype != "success":
                raise Refusal(Code.MODEL_NOT_FOUND, answered.error or "unknown model", param="model")
        mode = _MODES[options.approval_mode]
        if mode is not None:
            answered = await self._control.request("set_permission_mode", mode=mode)
            if answered.subtype != "success":
                raise Refusal(Code.UNSUPPORTED, answered.error or "no such mode", param="approval_mode")
        return self._conversation

    async def turn(
        self,
        conversation: str,  # noqa: ARG002 - it holds but one
        prompt: Prompt,
        out: Outbox,
        ask: AskLeave,
        call: CallTool,
    ) -> None:
        """Run one turn."""
        if self._initialized and prompt.schema != self._schema:
            message = "claude takes a schema for the whole conversation: start a new one for another"
            raise Refusal(Code.UNSUPPORTED, message, param="schema")
        turn = ClaudeTurn(str(uuid4()), self._options, prompt, out)
        # Sent as one: between the two there is nothing to wait for.
        lines = self._initialize(prompt) + user_line(turn.uuid, content(prompt))
        self._turn, self._running = turn, turn.uuid
        self._asked.clear()
        try:
            await self._begin(lines, prompt)
            async with trio.open_nursery() as nursery:
                await self._attend(turn, ask, call, nursery)
                nursery.cancel_scope.cancel()
        finally:
            self._turn = None
        if not out.ended:
            raise LinkClosed

    async def interrupt(self, conversation: str) -> None:  # noqa: ARG002 - it holds but one
        """End the turn in hand, and wait for its result."""
        if self._running is None:
            return
        # A message that has not become a turn yet has no result: it is taken back, and named in the answer.
        answered = await self._control.request("interrupt", cancel_queued=True)
        with suppress(msgspec.DecodeError):
            if self._running in (read(Interrupted, answered.response).cancelled or ()):
                self._running = None
        while self._running is not None:
            await self._control.wait()

    async def close(self, conversation: str) -> None:
        """Nothing is left to do: the process holds no other conversation and ends with this one."""

    # Details.

    async def _begin(self, lines: bytes, prompt: Prompt) -> None:
        try:
            await self._control.write(lines)
        except BaseException:
            # Cancelled before the first byte: no result will come. In the middle: the process closes, see `send`.
            self._running = None
            raise
        self._initialized, self._schema = True, prompt.schema

    async def _attend(self, turn: ClaudeTurn, ask: AskLeave, call: CallTool, nursery: trio.Nursery) -> None:
        """Answer for the agent what it asks, until its result is there or its output ends."""
        interrupted = False
        while self._running == turn.uuid and not self._control.closed:
            for request_id, asked in self._asked:
                nursery.start_soon(self._leave, request_id, asked, ask)
            self._asked.clear()
            for request_id, message in self._messages:
                nursery.start_soon(self._serve_tools, request_id, message, turn, call)
            self._messages.clear()
            if turn.cut_short and not interrupted:
                interrupted = True
                nursery.start_soon(self._cut_short)
            await self._control.wait()

    async def _cut_short(self) -> None:
        with suppress(LinkClosed):
            await self._control.request("interrupt")

    async def _leave(self, request_id: str, asked: CanUseTool, ask: AskLeave) -> None:
        """Put one permission to whoever decides, and tell the agent."""
        with trio.CancelScope() as scope, suppress(LinkClosed):
            self._asking[request_id] = scope
            try:
                leave = await ask(permission(request_id, asked))
            finally:
                del self._asking[request_id]
            await self._control.write(answer_line(request_id, decision(asked, leave)))

    async def _serve_tools(self, request_id: str, message: Message, turn: ClaudeTurn, call: CallTool) -> None:
        """Answer one message to our MCP server."""

        async def call_together(name: str, given: Any, number: int) -> ToolAnswer:  # noqa: ANN401 - any JSON
            # The agent calls a tool while its model is still writing the next call.
            with trio.move_on_after(MESSAGE_S):
                while turn.speaks:
                    await self._control.wait()
            return await call(name, given, number)

        with trio.CancelScope() as scope, suppress(LinkClosed):
            self._asking[request_id] = scope
            try:
                answer = await McpServer(self._options.tools).answer(message, call_together)
            finally:
                del self._asking[request_id]
            await self._control.write(answer_line(request_id, {"mcp_response": answer or {}}))

    def _initialize(self, prompt: Prompt) -> bytes:
        """Return the line before the first message, if there is anything to say in it."""
        if self._initialized:
            return b""
        fields: dict[str, Any] = {}
        if self._options.system_prompt:
            # Appended: replacing the agent's own would take from it how it uses its tools.
            fields["appendSystemPrompt"] = self._options.system_prompt
        if prompt.schema is not None:
            fields["jsonSchema"] = prompt.schema
        if self._options.tools:
            fields["sdkMcpServers"] = [NAME]
        return control_line("initialize", "initialize", {"hooks": None, **fields}) if fields else b""
