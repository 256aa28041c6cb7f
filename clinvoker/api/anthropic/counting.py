"""Tokens, estimated: counting them is the model's own business, and no agent is started to ask."""

from typing import Any, cast

import msgspec

from clinvoker.api.anthropic.request import Block, Content, CountRequest, MessagesRequest
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


def _content(content: Content) -> int:
    if isinstance(content, str):
        return tokens.estimate(content)
    return sum(_block(block) for block in content)


def _block(block: Block) -> int:
    count = tokens.estimate(block.text)
    if block.type == "image":
        return count + IMAGE
    if block.source is not None:  # a document
        count += tokens.estimate(block.source.data)
    if block.input is not None:
        count += _json(block.input)
    return count + _result(block.content)


def _result(content: Any) -> int:  # noqa: ANN401 - a tool's result, a text or blocks
    if content is None:
        return 0
    if isinstance(content, list):
        return sum(_result(part) for part in cast("list[Any]", content))
    if isinstance(content, dict):
        block = cast("dict[str, Any]", content)
        return IMAGE if block.get("type") == "image" else _json(block)
    return _json(content)


def _json(value: object) -> int:
    return tokens.estimate(msgspec.json.encode(value).decode())
