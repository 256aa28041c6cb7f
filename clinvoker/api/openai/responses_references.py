"""Items of the input that are named by their ids alone: Vercel's AI SDK sends those of earlier responses so."""

import msgspec
from msgspec.structs import replace

from actors.errors import Code, Refusal
from clinvoker.api.openai.responses_answer import ResponseAnswer
from clinvoker.api.openai.responses_past import look
from clinvoker.api.openai.responses_request import Item, ResponsesRequest
from clinvoker.service import Service


async def dereferenced(service: Service, told: ResponsesRequest, caller: str) -> ResponsesRequest:
    """The request with the items themselves. Raises `Refusal` naming a reference that leads nowhere."""
    if isinstance(told.input, str) or all(item.type != "item_reference" for item in told.input):
        return told
    responses: dict[str, ResponseAnswer] = {}
    items: list[Item] = []
    for index, item in enumerate(told.input):
        if item.type != "item_reference":
            items.append(item)
            continue
        name = _response_of(item.id)
        try:
            if name not in responses:
                responses[name] = await look(service, name, caller)
        except Refusal as refusal:
            if refusal.code is not Code.NOT_FOUND:
                raise
        found = [each for each in responses[name].output if each.id == item.id] if name in responses else []
        if not found:
            where = f"input[{index}].id"
            raise Refusal(Code.NOT_FOUND, f"{where}: there is no item {item.id!r}", param=where)
        items.append(msgspec.convert(msgspec.to_builtins(found[0]), Item))
    return replace(told, input=items)


def _response_of(item: str) -> str:
    """The response whose item that is: the ids of its items have its own, and their number."""
    return f"resp_{item.partition('_')[2].rpartition('_')[0]}"
