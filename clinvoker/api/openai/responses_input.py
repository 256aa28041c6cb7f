"""`GET /responses/{id}/input_items`: what a response's agent was told, as far as that is kept."""

import math
from collections.abc import Mapping
from contextlib import closing
from typing import Annotated, Literal

import msgspec
import trio
from msgspec import Meta, Struct

from actors.calls import run_of_call
from actors.errors import Code, Refusal
from actors.messages import ToolResult, ToolUse
from clinvoker.api.openai.responses_answer import after_of, run_of
from clinvoker.api.openai.responses_past import GLANCE, kept_request, named
from clinvoker.api.requests import explain
from clinvoker.chat.held import Part
from clinvoker.service import Service
from clinvoker.store import RunRecord

Limit = Annotated[int, Meta(ge=1, le=100)]
Order = Literal["asc", "desc"]


class Paging(Struct, frozen=True):
    """Which of the items, as OpenAI's API has it: the newest first."""

    limit: Limit = 20
    order: Order = "desc"
    after: str = ""


class InputText(Struct, frozen=True, tag="input_text"):
    """Text of a message."""

    text: str


class InputMessage(Struct, frozen=True, tag="message"):
    """What the agent was told, in one message: with what was said before, where it had not had it."""

    id: str
    content: tuple[InputText, ...]
    role: Literal["user"] = "user"
    status: Literal["completed"] = "completed"


class FunctionOutput(Struct, frozen=True, tag="function_call_output"):
    """What the client's function gave."""

    id: str
    call_id: str
    output: str
    status: Literal["completed"] = "completed"


class CustomOutput(Struct, frozen=True, tag="custom_tool_call_output"):
    """What the client's tool gave that takes a text."""

    id: str
    call_id: str
    output: str
    status: Literal["completed"] = "completed"


InputItem = InputMessage | FunctionOutput | CustomOutput


class InputItems(Struct, frozen=True):
    """A page of items."""

    data: list[InputItem]
    first_id: str | None
    last_id: str | None
    has_more: bool
    object: Literal["list"] = "list"


async def input_items(service: Service, name: str, caller: str) -> list[InputItem]:
    """The items, the first one first. Raises `Refusal`."""
    with named():
        await kept_request(service, name)
        run = await service.stored_run(run_of(name), caller)
    if after_of(name):
        return await _outputs(service, name, run)
    turns = await service.store.turns(run.session) if run.session is not None else ()
    prompts = [turn.prompt for turn in turns if turn.run == run.id]
    return [InputMessage(f"msg_{name.removeprefix('resp_')}_in", (InputText(each),)) for each in prompts]


def paging_of(args: Mapping[str, str]) -> Paging:
    """What a query says. Raises `Refusal` naming the parameter at fault."""
    try:
        return msgspec.convert(dict(args), Paging, strict=False)
    except msgspec.ValidationError as error:
        message, param = explain(str(error))
        raise Refusal(Code.INVALID_REQUEST, message, param=param) from None


def page_of(items: list[InputItem], paging: Paging) -> InputItems:
    """A page of the items, the first one first."""
    ordered = items if paging.order == "asc" else items[::-1]
    begin = next((index for index, item in enumerate(ordered, 1) if item.id == paging.after), 0)
    data = ordered[begin : begin + paging.limit]
    first, last = (data[0].id, data[-1].id) if data else (None, None)
    return InputItems(data, first, last, begin + len(data) < len(ordered))


async def _outputs(service: Service, name: str, run: RunRecord) -> list[InputItem]:
    """What the client's tools had given when the run went on."""
    after = after_of(name)
    part = Part(after)
    freeform: set[str] = set()
    items: list[InputItem] = []
    with (
        closing(await service.follow(run.id, run.owner)) as follower,
        trio.move_on_after(GLANCE if run.ended is None else math.inf),
    ):
        async for page in follower:
            before = [entry.content for entry in page if entry.seq <= after]
            freeform |= {use.id for use in before if isinstance(use, ToolUse) and isinstance(use.input, str)}
            for event in part.take(page[len(before) :]):
                if isinstance(event, ToolResult) and run_of_call(event.id) == run.id:
                    kind = CustomOutput if event.id in freeform else FunctionOutput
                    item_id = f"fco_{name.removeprefix('resp_')}_{len(items)}"
                    items.append(kind(item_id, event.id, event.output))
            if part.upto:
                break
    return items
