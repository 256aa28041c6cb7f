"""Reply: what the fake model will say to a conversation, before any wire format."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from itertools import takewhile
from typing import Literal

from tests.fake_model import obliging
from tests.fake_model.conversation import Conversation
from tests.fake_model.directives import Directives, ToolCall, parse

STRUCTURED_TOOL = "StructuredOutput"
UNICODE = (
    "naïve café \u2014 日本語テキスト \U0001f642\U0001f469\u200d\U0001f469\u200d\U0001f467\u200d\U0001f466 e\u0301 "
    'עברית \u2028line-sep\u2029para-sep \u0085nel tab\there "quotes" back\\slash </tag> \U0001f680 end'
)
"""Everything that breaks naive line splitting and naive slicing; the words of the recorded transcripts."""
_SURROGATES = ("pair ", "\ud83d", "\ude42", " joined")
FAULT_AFTER = 3
"""A mid-stream fault comes after this many words, so that a client has seen some of the answer."""
_MID_WORDS = " one two three four five six"
"""A mid-stream fault needs a middle: a prompt too short to have one is padded."""
_WORD = re.compile(r"\s*\S+|\s+\Z")


@dataclass(frozen=True, slots=True)
class Failure:
    """An HTTP error in place of an answer; each API has its own body for it."""

    status: int
    kind: Literal["", "context"] = ""
    retry_after: str | None = None


@dataclass(frozen=True, slots=True)
class Reply:
    """What to say and how: `words` in order, each one event on the wire."""

    words: tuple[str, ...] = ()
    thinking: tuple[str, ...] = ()
    tools: tuple[ToolCall, ...] = ()
    finish: Literal["stop", "length", "refusal", "tool"] = "stop"
    slow: float = 0.0
    wait: float = 0.0
    mid: Literal["cut", "error", "hang"] | None = None
    failure: Failure | None = None

    @property
    def text(self) -> str:
        """The whole answer."""
        return "".join(self.words)

    @property
    def output_tokens(self) -> int:
        """One token a word, and a flat ten for each tool call."""
        return len(self.words) + len(self.thinking) + 10 * len(self.tools)


def split(text: str) -> tuple[str, ...]:
    """Cut into words that keep the white space before them: joined again they are the text."""
    return tuple(_WORD.findall(text))


def compose(talk: Conversation, attempt: int, *, streamed: bool) -> Reply:
    """Decide the reply to `talk`, asked for the `attempt`-th time (from 1) with this very text."""
    asked = parse(talk.text)
    if wanted := obliging.call(talk, asked):
        asked = Directives(tools=[wanted])
    done = len(talk.tool_results)
    if done < len(asked.tools) and (done or not _fails(asked, attempt)):
        return Reply(
            words=("calling",),
            thinking=_thinking(asked),
            tools=_calls(asked.tools[done:]),
            finish="tool",
            slow=asked.slow,
            wait=asked.wait,
        )
    if done:
        return Reply(words=split("tool-result: " + "\n".join(talk.tool_results)), slow=asked.slow)
    if _fails(asked, attempt):
        kind: Literal["", "context"] = "context" if asked.error_type == "context" else ""
        return Reply(wait=asked.wait, failure=Failure(asked.error or 400, kind, asked.retry_after))
    tools: tuple[ToolCall, ...] = ()
    if asked.structured is not None and STRUCTURED_TOOL in talk.tools:
        tools = (ToolCall(STRUCTURED_TOOL, asked.structured),)
    return Reply(
        words=_words(asked, talk),
        thinking=_thinking(asked),
        tools=tools,
        finish="tool" if tools else asked.finish,
        slow=asked.slow,
        wait=asked.wait,
        mid=_mid(asked, attempt) if streamed or asked.mid == "cutalways" else None,
    )


def _calls(left: list[ToolCall]) -> tuple[ToolCall, ...]:
    """The first of these calls, and those that go along with it."""
    return (left[0], *takewhile(lambda call: call.along, left[1:]))


def _fails(asked: Directives, attempt: int) -> bool:
    if asked.error_type:
        return True
    return asked.error is not None and (asked.error_times is None or attempt <= asked.error_times)


def _mid(asked: Directives, attempt: int) -> Literal["cut", "error", "hang"] | None:
    match asked.mid:
        case "cut" | "erroronce":
            return ("cut" if asked.mid == "cut" else "error") if attempt == 1 else None
        case "cutalways":
            return "cut"
        case _:
            return asked.mid


def _thinking(asked: Directives) -> tuple[str, ...]:
    return split(asked.think) if asked.think else ()


def _words(asked: Directives, talk: Conversation) -> tuple[str, ...]:
    """Choose the answer; the most telling directive wins."""
    if asked.empty or asked.surrogates:
        return _SURROGATES if asked.surrogates else ()
    if asked.long is not None:
        return tuple(f" w{n}" if n else "w0" for n in range(asked.long))
    if asked.structured is not None:
        return (json.dumps(asked.structured, ensure_ascii=False, separators=(",", ":")),)
    text = "echo: " + talk.text
    if asked.unicode:
        text = UNICODE
    elif asked.say is not None:
        text = asked.say
    elif asked.history:
        text = " | ".join(talk.user_texts)
    words = split(text)
    return words if asked.mid is None or len(words) > FAULT_AFTER else words + split(_MID_WORDS)
