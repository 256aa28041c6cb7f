"""From a run's events to the events of a response: one numbered sequence, the same whenever it is told."""

from typing import Any

from msgspec import Struct, json
from msgspec.structs import replace

from actors.messages import Complete, Event, Failed, Message, Thinking, ToolUse
from clinvoker.api.frames import unbroken
from clinvoker.api.openai.responses_answer import (
    CustomCallItem,
    FunctionCallItem,
    OutputItem,
    OutputMessage,
    OutputText,
    Reasoning,
    ResponseAnswer,
    SummaryText,
    error_of,
    incomplete_of,
    status_of,
    usage_of,
)
from clinvoker.api.openai.tools import arguments_of, pieces

Written = dict[str, Any]
"""An event as it is written."""


_ALIVE = "response.in_progress"


class Open(Struct):
    """The item that grows."""

    kind: type[Message] | type[Thinking]
    id: str
    texts: list[str]


class ResponseEvents:
    """Tells a response, event by event; `response` is what it has come to."""

    def __init__(self, response: ResponseAnswer) -> None:
        self.response = replace(response, status="in_progress", output=())
        self._number = -1
        self._open: Open | None = None

    def begin(self) -> list[Written]:
        """The first events."""
        return [
            self._event(f"response.{name}", response=self.response) for name in ("created", "in_progress")
        ]

    def alive(self) -> Written:
        """What keeps a client waiting: it tells nothing new, so it has the number of the last event."""
        return {
            "type": _ALIVE,
            "sequence_number": self._number,
            "response": replace(self.response, output=()),
        }

    def take(self, events: list[Event], when: float) -> list[Written]:
        """What these events of the run are, the last of which came then (seconds since 1970)."""
        written: list[Written] = []
        for event in events:
            if isinstance(event, Message | Thinking):
                written += self._grow(event)
            elif isinstance(event, ToolUse) and event.client:
                written += self._close() + self._call(event)
            elif isinstance(event, Complete | Failed):
                written += self._close() + self._end(event, int(when))
        return written

    def _grow(self, event: Message | Thinking) -> list[Written]:
        written: list[Written] = []
        item = self._open
        if item is None or item.kind is not type(event):
            written = self._close()
            item, more = self._begin_item(type(event))
            written += more
        item.texts.append(event.text)
        delta: Written = {"item_id": item.id, "output_index": len(self.response.output), "delta": event.text}
        if item.kind is Message:
            delta |= {"content_index": 0, "logprobs": ()}
            return [*written, self._event("response.output_text.delta", **delta)]
        return [*written, self._event("response.reasoning_summary_text.delta", summary_index=0, **delta)]

    def _begin_item(self, kind: type[Message] | type[Thinking]) -> tuple[Open, list[Written]]:
        index = len(self.response.output)
        prefix = "msg" if kind is Message else "rs"
        item = self._open = Open(kind, f"{prefix}_{self.response.id.removeprefix('resp_')}_{index}", [])
        return item, [
            self._event("response.output_item.added", output_index=index, item=_item(item, "in_progress")),
            self._part("added", item, ""),
        ]

    def _close(self) -> list[Written]:
        """The end of the item that grew."""
        item, self._open = self._open, None
        if item is None:
            return []
        text = "".join(item.texts)
        index = len(self.response.output)
        done: Written = {"item_id": item.id, "output_index": index, "text": text}
        if item.kind is Message:
            ended = self._event("response.output_text.done", content_index=0, logprobs=(), **done)
        else:
            ended = self._event("response.reasoning_summary_text.done", summary_index=0, **done)
        whole = _item(item, "completed")
        part = self._part("done", item, text)
        self.response = replace(self.response, output=(*self.response.output, whole))
        return [ended, part, self._event("response.output_item.done", output_index=index, item=whole)]

    def _call(self, use: ToolUse) -> list[Written]:
        """A call of the client's tool: whole from the start, but told as if it grew."""
        index = len(self.response.output)
        name = f"{self.response.id.removeprefix('resp_')}_{index}"
        text = arguments_of(use.input)
        if isinstance(use.input, str):
            whole = CustomCallItem(f"ctc_{name}", use.id, use.name, text, "completed")
            begun, kind = replace(whole, input="", status="in_progress"), "custom_tool_call_input"
            done: Written = {"input": text}
        else:
            whole = FunctionCallItem(f"fc_{name}", use.id, use.name, text, "completed")
            begun, kind = replace(whole, arguments="", status="in_progress"), "function_call_arguments"
            done = {"arguments": text, "name": use.name}
        where: Written = {"item_id": whole.id, "output_index": index}
        self.response = replace(self.response, output=(*self.response.output, whole))
        return [
            self._event("response.output_item.added", output_index=index, item=begun),
            *(self._event(f"response.{kind}.delta", delta=piece, **where) for piece in pieces(text)),
            self._event(f"response.{kind}.done", **where, **done),
            self._event("response.output_item.done", output_index=index, item=whole),
        ]

    def _part(self, what: str, item: Open, text: str) -> Written:
        where: Written = {"item_id": item.id, "output_index": len(self.response.output)}
        if item.kind is Message:
            return self._event(
                f"response.content_part.{what}", content_index=0, part=OutputText(text), **where
            )
        part = SummaryText(text)
        return self._event(f"response.reasoning_summary_part.{what}", summary_index=0, part=part, **where)

    def _end(self, last: Complete | Failed, when: int) -> list[Written]:
        status = status_of(last)
        if isinstance(last, Complete):
            details, usage = incomplete_of(last), usage_of(last.token_usage)
            at = when if status == "completed" else None
            self.response = replace(
                self.response, status=status, incomplete_details=details, usage=usage, completed_at=at
            )
        else:
            self.response = replace(self.response, status=status, error=error_of(last))
        # There is no event for a cancelled response: it did not come to its end.
        name = "failed" if status == "cancelled" else status
        return [self._event(f"response.{name}", response=self.response)]

    def _event(self, kind: str, **fields: Any) -> Written:  # noqa: ANN401 - whatever has a JSON form
        self._number += 1
        return {"type": kind, "sequence_number": self._number, **fields}


def frames(written: list[Written], after: int = -1) -> bytes:
    """The frames of those events that come after this number."""
    told = [each for each in written if each["sequence_number"] > after]
    return unbroken(
        b"".join(b"event: %b\ndata: %b\n\n" % (each["type"].encode(), json.encode(each)) for each in told)
    )


def _item(item: Open, status: Any) -> OutputItem:  # noqa: ANN401 - one of two literals
    text = "".join(item.texts)
    if item.kind is Message:
        content = (OutputText(text),) if status == "completed" else ()
        return OutputMessage(item.id, content, status)
    summary = (SummaryText(text),) if status == "completed" else ()
    return Reasoning(item.id, summary, status)
