"""What one turn of claude says, line by line, as events: the part of the protocol that knows no time (claude 2.1.330)."""

from typing import Any, cast

import msgspec
from msgspec import UNSET, UnsetType

from actors.messages import Complete, Message, Options, Prompt, Start, Thinking, ToolResult, ToolUse, Usage
from actors.outbox import Outbox
from clinvoker.backends.answer import Answer
from clinvoker.backends.claude_faults import failure, hopeless, is_rate_limit
from clinvoker.backends.claude_wire import (
    Init,
    Line,
    Opened,
    Result,
    Retry,
    Said,
    StreamEvent,
    Synthetic,
    Tokens,
    read,
)
from clinvoker.backends.surrogates import Joiner
from clinvoker.mcp.server import NAME

_SCHEMA_TOOL = "StructuredOutput"
"""The tool through which the model hands in an answer that must satisfy a schema: the answer itself, not a tool."""

_CLIENT_TOOL = f"mcp__{NAME}__"

_SYNTHETIC_MODEL = "<synthetic>"


class ClaudeTurn:
    """One turn: fed with every line of the agent's until `feed` says that it was the last."""

    def __init__(self, uuid: str, options: Options, prompt: Prompt, out: Outbox) -> None:
        self.uuid = uuid
        self.cut_short = False
        """What is left of the turn is not wanted: the agent is to be interrupted."""
        self.speaks = False
        """The model is in the middle of a message."""
        self._options = options
        self._out = out
        self._structured = prompt.schema is not None
        self._answer = Answer(out)
        self._thinking = Answer(out, Thinking)
        self._text_open = self._thinking_open = False
        """A block has begun and its whole has not come yet."""
        self._goes_on = False
        """The next text block continues the last one in mid-sentence."""
        self._untold: set[str] = set()
        """Calls that are no tool's of the agent: the answer by a schema, and what the client is told of anyway."""
        self._synthetic = Synthetic()
        self._wait_s: float | UnsetType = UNSET
        """What the last rate limit asked to wait."""
        self._started = False

    def feed(self, line: Line, data: bytes) -> None:
        """Take any line but a result. Raises `msgspec.DecodeError` for one that cannot be read."""
        if self.cut_short:
            return
        match line.type:
            case "stream_event":
                if line.event is not None and line.parent_tool_use_id is None:
                    self._stream(line.event)
            case "assistant":
                if line.parent_tool_use_id is None:
                    self._assistant(line, data)
            case "user":
                if line.parent_tool_use_id is None and not line.isSynthetic:
                    self._tool_results(line)
            case "system":
                self._system(line, data)
            case _:
                pass

    def end(self, result: Result, cost_usd: float | None) -> None:
        """Take the result, and put the turn's last event."""
        usage = _usage(result.usage or Tokens(), cost_usd)
        denied = tuple(dict.fromkeys(denial.tool_name for denial in result.permission_denials or ()))
        if self.cut_short:
            stop_reason = "max_tokens"  # unless it failed before: then this comes too late and is dropped
        elif result.subtype == "error_max_turns":
            stop_reason = "max_turns"
        elif result.is_error or (result.subtype or "success") != "success":
            self._out.put(failure(result, self._synthetic, self._wait_s))
            return
        elif self._structured:
            stop_reason = "end_turn"  # the CLI says "tool_use"
            if result.structured_output is None:
                self._out.put(failure(_UNSTRUCTURED, Synthetic()))
                return
            self._start(self._options.model, self._options.workdir)
            self._out.put(Message(msgspec.json.encode(result.structured_output).decode()))
        else:
            stop_reason = result.stop_reason or "end_turn"
        self._start(self._options.model, self._options.workdir)
        self._out.put(Complete(stop_reason, usage, denied=denied))

    def _start(self, model: str, workdir: str) -> None:
        if not self._started:
            self._started = True
            self._out.put(Start(model, workdir))

    def _system(self, line: Line, data: bytes) -> None:
        if line.subtype == "init":
            init = read(Init, data)
            self._start(init.model, init.cwd)
        elif line.subtype == "api_retry":
            retry = read(Retry, data)
            if is_rate_limit(retry):
                self._wait_s = retry.retry_delay_ms / 1000
            failed = hopeless(retry)
            if failed is not None:
                self._out.put(failed)
                self.cut_short = True

    # The stream of one message after another.

    def _stream(self, event: StreamEvent) -> None:
        delta = event.delta
        if event.type in {"message_start", "message_stop"}:
            self.speaks = event.type == "message_start"
        elif event.type == "content_block_delta":
            if delta is None:
                return
            if delta.type == "text_delta":
                if not self._structured:
                    self._answer.delta(delta.text)
            elif delta.type == "thinking_delta":
                self._thinking.delta(delta.thinking)
        elif event.type == "content_block_start":
            self._open_block(event.content_block or Opened())
        elif event.type == "message_delta" and delta is not None and delta.stop_reason == "max_tokens":
            # The CLI would tell the model to go on, three times over: a limit that the caller set is an end.
            self.cut_short = self._options.max_tokens is not None
            self._goes_on = True

    def _open_block(self, block: Opened) -> None:
        if block.type == "text":
            self._text_open = self._begin(self._answer, repeats=self._text_open, separate=not self._goes_on)
            self._goes_on = False
        elif block.type == "thinking":
            self._thinking_open = self._begin(self._thinking, repeats=self._thinking_open)

    @staticmethod
    def _begin(answer: Answer, *, repeats: bool, separate: bool = True) -> bool:
        """Begin a block. One that never got its whole was cut off by a fault upstream: then it is told again."""
        if repeats:
            answer.restart_block()
        else:
            answer.begin_block(separate=separate)
        return True

    def _assistant(self, line: Line, data: bytes) -> None:
        """Take a finished block: it comes before the block's stop, and without deltas after a fault upstream."""
        said = read(Said, line.message)
        if said.model == _SYNTHETIC_MODEL:
            self._synthetic = read(Synthetic, data)
            return
        if isinstance(said.content, str):
            return
        for block in said.content:
            if block.type == "text":
                if not self._structured:
                    self._whole(self._answer, block.text, opened=self._text_open)
                self._text_open = False
            elif block.type == "thinking":
                self._whole(self._thinking, block.thinking, opened=self._thinking_open)
                self._thinking_open = False
            elif block.type == "tool_use" and (
                (block.name == _SCHEMA_TOOL and self._structured) or block.name.startswith(_CLIENT_TOOL)
            ):
                self._untold.add(block.id)
            elif block.type == "tool_use":
                self._out.put(ToolUse(block.id, block.name, block.input))

    @staticmethod
    def _whole(answer: Answer, text: str, *, opened: bool) -> None:
        if not opened:
            answer.begin_block()
        answer.whole(text)

    def _tool_results(self, line: Line) -> None:
        said = read(Said, line.message)
        if isinstance(said.content, str):
            return
        for block in said.content:
            if block.type == "tool_result" and block.tool_use_id not in self._untold:
                self._out.put(ToolResult(block.tool_use_id, _text(block.content), bool(block.is_error)))


_UNSTRUCTURED = Result(
    is_error=True, errors=["the agent ended the turn without an answer that satisfies the schema"]
)


def _text(content: Any) -> str:  # noqa: ANN401 - a tool gives a text, blocks, or nothing
    """Return what of a tool's output is text; of the rest only its kind."""
    if content is None or isinstance(content, str):
        text = content or ""
    elif isinstance(content, list):
        text = "\n".join(_block_text(block) for block in cast("list[Any]", content))
    else:
        text = msgspec.json.encode(content).decode()
    joiner = Joiner()
    return joiner.feed(text) + joiner.finish()


def _block_text(block: Any) -> str:  # noqa: ANN401 - as above
    if isinstance(block, dict):
        fields = cast("dict[str, Any]", block)
        text = fields.get("text")
        return text if isinstance(text, str) else f"[{fields.get('type', 'data')}]"
    return str(block)


def _usage(tokens: Tokens, cost_usd: float | None) -> Usage:
    return Usage(
        # The API counts the three apart.
        input_tokens=tokens.input_tokens
        + tokens.cache_read_input_tokens
        + tokens.cache_creation_input_tokens,
        output_tokens=tokens.output_tokens,
        cached_tokens=tokens.cache_read_input_tokens,
        reasoning_tokens=(
            tokens.output_tokens_details.thinking_tokens if tokens.output_tokens_details else 0
        ),
        cost_usd=cost_usd,
    )
