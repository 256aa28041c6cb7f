"""Directives: a prompt steers the fake model with `[[name:argument]]` marks, which may be combined.

They live in the prompt because it is the one thing that reaches the model through every CLI unchanged.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Literal

_MARK = re.compile(r"\[\[([a-z]+)(?::|(?=\]\]))")
_DECODER = json.JSONDecoder()

_JOKE = '[[json:{"setup": "Why do cats purr?", "punchline": "They may."}]]'
_IN_WORDS = {
    # LangChain's standard tests ask for a structured answer in these words.
    "Tell me a joke about cats.": _JOKE,
    "Give me a joke about cats, include the punchline.": _JOKE,
    "Give me the setup to a joke about cats, no punchline.": (
        '[[json:{"setup": "Why do cats purr?", "punchline": null}]]'
    ),
}
"""Prompts that are not ours to mark."""

Mid = Literal["cut", "cutalways", "error", "erroronce", "hang"]


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call of one of the agent's tools. `along`: in the same answer of the model's as the call before it."""

    name: str
    input: Any
    along: bool = False


@dataclass(slots=True)
class Directives:
    """Everything one prompt asks for; an empty one asks for a plain echo."""

    long: int | None = None
    slow: float = 0.0
    wait: float = 0.0
    error: int | None = None
    error_times: int | None = None
    error_type: str | None = None
    retry_after: str | None = None
    mid: Mid | None = None
    think: str | None = None
    say: str | None = None
    structured: Any = None
    finish: Literal["stop", "length", "refusal"] = "stop"
    empty: bool = False
    unicode: bool = False
    surrogates: bool = False
    history: bool = False
    tools: list[ToolCall] = field(default_factory=list)


def parse(text: str) -> Directives:
    """Read every directive of `text`; an unknown name is left alone, for prompts may hold brackets of their own."""
    found = Directives()
    text += "".join(marks for words, marks in _IN_WORDS.items() if words in text)
    position = 0
    while mark := _MARK.search(text, position):
        name, position = mark[1], mark.end()
        if name in {"tool", "along", "json"}:
            position = _parse_json(found, name, text, position)
            continue
        end = text.find("]]", position)
        if end < 0:
            break
        with suppress(ValueError):  # not a number where one belongs: no directive of ours
            _apply(found, name, text[position:end])
        position = end + 2
    return found


def _parse_json(found: Directives, name: str, text: str, position: int) -> int:
    """Take a JSON argument, which may itself hold `]]`, so its own grammar says where it ends."""
    tool = ""
    if name != "json":
        start = re.compile(r"([^\s\]]+)\s*").match(text, position)
        if start is None:
            return position
        tool, position = start[1], start.end()
    try:
        value, position = _DECODER.raw_decode(text, position)
    except ValueError:
        value = {}
    if name == "json":
        found.structured = value
    else:
        found.tools.append(ToolCall(tool, value, along=name == "along"))
    return position


def _apply(found: Directives, name: str, argument: str) -> None:
    """Set what one plain directive stands for."""
    if name in _FLAGS:
        field_name, flag = _FLAGS[name]
        setattr(found, field_name, flag)
    elif name in _ARGUMENTS:
        field_name, convert = _ARGUMENTS[name]
        setattr(found, field_name, convert(argument))
    elif name in {"err", "errtimes"}:
        code, _, times = argument.partition(":")
        found.error = int(code)
        found.error_times = int(times) if times else None


_FLAGS: dict[str, tuple[str, Any]] = {
    "max": ("finish", "length"),
    "maxtokens": ("finish", "length"),
    "refuse": ("finish", "refusal"),
    "empty": ("empty", True),
    "unicode": ("unicode", True),
    "surrogates": ("surrogates", True),
    "history": ("history", True),
}
_ARGUMENTS: dict[str, tuple[str, Callable[[str], Any]]] = {
    "long": ("long", int),
    "slow": ("slow", lambda ms: float(ms) / 1000),
    "wait": ("wait", lambda ms: float(ms) / 1000),
    "errtype": ("error_type", str),
    "retryafter": ("retry_after", str),
    "mid": ("mid", str),
    "think": ("think", lambda text: text or "let me think"),
    "say": ("say", str),
}
