"""Tokens, estimated: counting them is the model's own business, and no agent is started to ask."""

from typing import Any, cast

import msgspec

from clinvoker.api.anthropic.request import (
    AnyBlock,
    AnyContent,
    Block,
    Content,
    CountRequest,
    MessagesRequest,
    Source,
)
from clinvoker.chat import tokens

IMAGE = 1500
"""About what a picture of a megapixel costs."""

MESSAGE = 4
"""What frames a message."""


def estimate(asked: CountRequest | MessagesRequest) -> int:
    """About how many tokens a request comes to; never less than one."""
    count = _content(asked.system) if asked.system is not None else 0
    count += sum(MESSAGE + _content(said.content) for said in asked.messages)
    if asked.tools:
        count += _json(asked.tools)
    return max(1, count)


def _content(content: Content | AnyContent) -> int:
    if isinstance(content, str):
        return tokens.estimate(content)
    return sum(_block(block) for block in content)


def _block(block: Block | AnyBlock) -> int:
    if block.type == "image":
        return IMAGE
    told = (block.text, block.title, block.source, block.input)
    return sum(_value(value) for value in told) + _result(block.content)


def _result(content: Any) -> int:  # noqa: ANN401 - a tool's result, a text or blocks
    if not isinstance(content, list):
        return _value(content)
    return sum(
        IMAGE
        if isinstance(part, dict) and cast("dict[str, Any]", part).get("type") == "image"
        else _value(part)
        for part in cast("list[Any]", content)
    )


def _value(value: Any) -> int:  # noqa: ANN401 - whatever a block has
    match value:
        case None:
            return 0
        case str():
            return tokens.estimate(value)
        case Source(data=data) | {"data": str(data)}:
            return tokens.estimate(data)
        case _:
            return _json(value)


def _json(value: object) -> int:
    return tokens.estimate(msgspec.json.encode(value).decode())
