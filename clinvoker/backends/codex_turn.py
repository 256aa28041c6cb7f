"""One turn of codex as a synchronous state machine: notifications in, events out. It does no I/O and waits for nothing.

A turn is not one thread alone: the agent may set subagents to work in threads of their own, which nothing but the
`rootTurnId` of their turns ties to ours (0.169.0). Their texts are not the answer, but their tokens and tools are ours.
"""

from collections.abc import Callable
from typing import Any

import trio
from msgspec.structs import astuple, replace

from actors.errors import Code
from actors.messages import Complete, Failed, Permission, Start, Thinking, ToolResult, ToolUse, Usage
from actors.outbox import Outbox
from clinvoker.backends.answer import SEPARATOR, Answer
from clinvoker.backends.codex_errors import failed, is_cut_off, is_hopeless
from clinvoker.backends.codex_items import is_bad, tool_input, tool_name, tool_output
from clinvoker.backends.codex_wire import (
    Delta,
    Item,
    ItemNotice,
    PartNotice,
    Tokens,
    TokenUsage,
    Trouble,
    TroubleNotice,
    TurnNotice,
    UsageNotice,
)


class Turn:
    """A turn in hand. `patience` is the scope of whoever follows it: it runs out when retries lead nowhere for long."""

    def __init__(self, thread_id: str, start: Start, out: Outbox, patience_s: float) -> None:
        self.thread_id = thread_id
        self.id = ""
        """Codex's id of the turn, once it has named it."""
        self.stirred = trio.Event()
        """Something happened that whoever follows the turn must see to."""
        self.idle = False
        """Codex has ended the turn."""
        self.given_up = False
        """We have ended the turn, and codex does not know it yet."""
        self.patience = trio.CancelScope()
        self.subagents: dict[str, str] = {}
        """Threads of subagents, and the turn that runs there; empty when none does."""
        self.used_tools = False
        self._out = out
        self._start = start
        self._patience_s = patience_s
        self._answer = Answer(out)
        self._in_block = False
        self._retrying = False
        self._restarting = False
        self._thought = ""
        self._thought_again: str | None = None
        self._open: dict[str, ToolUse] = {}
        self._denied: dict[str, str] = {}
        self._before: dict[str, Tokens] = {}
        self._now: dict[str, Tokens] = {}
        self._trouble = Trouble()

    def started(self, notice: TurnNotice) -> None:
        """Codex has begun with our turn, or with one of a subagent."""
        if notice.thread_id != self.thread_id:
            self.subagents[notice.thread_id] = notice.turn.id
        elif not self.id or self.id == notice.turn.id:
            self.id = notice.turn.id
            self._out.put(self._start)

    def said(self, delta: Delta) -> None:
        """A piece of the answer."""
        if delta.turn_id == self.id:
            self._get_on()
            self._answer.delta(delta.delta)

    def thought(self, delta: Delta) -> None:
        """A piece of reasoning; what a retry repeats is swallowed."""
        if delta.turn_id == self.id:
            self._get_on()
            self._think(delta.delta)

    def part_begun(self, notice: PartNotice) -> None:
        """Another part of the reasoning begins."""
        if notice.turn_id == self.id and notice.summary_index > 0:
            self._think(SEPARATOR)

    def item_begun(self, notice: ItemNotice) -> None:
        """An item begins: a block of the answer, or the use of a tool."""
        if notice.turn_id != self.id:
            return
        self._get_on()
        item = notice.item
        if item.type == "agentMessage":
            # After a stream error the retry gives the block again, under a new id.
            if not self._restarting:
                self._answer.begin_block()
            self._restarting = False
            self._in_block = True
        elif name := tool_name(item):
            self._use(item, name)

    def item_done(self, notice: ItemNotice) -> None:
        """An item is complete."""
        if notice.turn_id != self.id:
            return
        item = notice.item
        if item.type == "agentMessage":
            self._answer.whole(item.text)
        elif name := tool_name(item):
            if item.id not in self._open:
                self._use(item, name, known=True)
            del self._open[item.id]
            if item.status == "declined":
                self.deny(item.id, name)
            self._out.put(ToolResult(item.id, tool_output(item), is_bad(item)))

    def deny(self, item_id: str, tool: str) -> None:
        """Note that a tool was refused leave."""
        self._denied[item_id] = self._open[item_id].name if item_id in self._open else tool

    def describe(self, item_id: str, permission: Permission) -> Permission:
        """Complete what a permission is about by what the item tells: of a change of files, the changes."""
        use = self._open.get(item_id)
        return permission if use is None else replace(permission, input={**use.input, **permission.input})

    def used(self, notice: UsageNotice) -> None:
        """A call of the model is complete, with all that it said."""
        usage: TokenUsage = notice.token_usage
        if notice.thread_id == self.thread_id:
            # On `thread/resume` codex tells the last usage again, under the id of a former turn.
            if notice.turn_id != self.id:
                return
            self._get_on()
            self._in_block = self._restarting = False
            self._thought, self._thought_again = "", None
        self._before.setdefault(notice.thread_id, _combine(usage.total, usage.last, int.__sub__))
        self._now[notice.thread_id] = usage.total

    def troubled(self, notice: TroubleNotice) -> None:
        """Codex has met with an error. One that it will not retry comes again with the end of the turn."""
        if notice.turn_id != self.id or not notice.will_retry:
            return
        self._trouble = notice.error
        failure = failed(notice.error)
        wait = failure.retry_after
        if is_hopeless(notice.error) or (isinstance(wait, float) and wait > self._patience_s):
            self.give_up()
            return
        if not self._retrying:
            self._retrying = True
            self.patience.deadline = trio.current_time() + self._patience_s
        if self._in_block:
            self._answer.restart_block()
            self._restarting = True
        self._thought_again = ""

    def give_up(self) -> None:
        """Fail for the error that codex keeps retrying after."""
        self._out.put(failed(self._trouble))
        self.given_up = True
        self.stirred.set()

    def completed(self, notice: TurnNotice) -> None:
        """Codex has ended our turn, or that of a subagent."""
        if notice.thread_id != self.thread_id:
            self.subagents[notice.thread_id] = ""
            return
        if notice.turn.id != self.id:
            return
        for item_id in self._open:
            # A command that outlives the turn in codex's background does not with us.
            self._out.put(ToolResult(item_id, "still running at the end of the turn: stopped", is_error=True))
        trouble = notice.turn.error or Trouble()
        match notice.turn.status:
            case "completed":
                self._out.put(self._complete("end_turn"))
            case "interrupted":
                self._out.put(Failed(Code.CANCELLED, "the turn was interrupted"))
            case _ if is_cut_off(trouble):
                self._out.put(self._complete("max_tokens"))
            case _:
                self._out.put(failed(trouble))
        self.ended()

    def ended(self) -> None:
        """Codex has no such turn any more."""
        self.idle = True
        self.stirred.set()

    def refuse(self, code: Code, message: str) -> None:
        """Fail because codex did not take the turn at all."""
        self._out.put(Failed(code, message))
        self.ended()

    def _get_on(self) -> None:
        if self._retrying:
            self._retrying = False
            self.patience.deadline = float("inf")

    def _think(self, text: str) -> None:
        if self._thought_again is not None:
            again = self._thought_again + text
            if self._thought.startswith(again):
                self._thought_again = again
                return
            text = again.removeprefix(self._thought)
            self._thought_again = None
        self._thought += text
        self._out.put(Thinking(text))

    def _use(self, item: Item, name: str, *, known: bool = False) -> None:
        """Tell of a tool's use; a search whose query codex does not know yet waits for its end."""
        given: Any = tool_input(item)
        self.used_tools = True
        if given or known:
            use = self._open[item.id] = ToolUse(item.id, name, given)
            self._out.put(use)

    def _complete(self, stop_reason: str) -> Complete:
        spent = Tokens()
        for thread_id, now in self._now.items():
            spent = _combine(spent, _combine(now, self._before[thread_id], int.__sub__), int.__add__)
        usage = Usage(
            spent.input_tokens,
            spent.output_tokens,
            spent.cached_input_tokens,
            spent.reasoning_output_tokens,
        )
        return Complete(stop_reason, usage, denied=tuple(self._denied.values()))


def _combine(one: Tokens, other: Tokens, how: Callable[[int, int], int]) -> Tokens:
    return Tokens(*map(how, astuple(one), astuple(other)))
