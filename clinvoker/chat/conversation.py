"""A chat in one shape, whatever dialect it came in."""

from collections.abc import Iterable, Sequence
from typing import Literal

from msgspec import Struct
from msgspec.structs import replace

from actors.errors import Code, Refusal
from actors.messages import Image, ToolAnswer

Role = Literal["user", "assistant"]


class Said(Struct, frozen=True):
    """What one side said: text, and pictures beside it."""

    role: Role
    text: str
    images: tuple[Image, ...] = ()
    results: tuple[ToolAnswer, ...] = ()
    """What of it are results of the client's tools; whatever was said beside stands at the end of the last one, too."""


class Chat(Struct, frozen=True):
    """A conversation: the sides take turns, and the user has the last word."""

    system: str
    history: tuple[Said, ...]
    newest: Said


def make_chat(system: Iterable[str], messages: Sequence[Said], param: str = "messages") -> Chat:
    """Return the chat of these messages; those of one side that follow one another are one.

    `system` are the texts of the system prompt. Raises `Refusal` if the user does not have the last word.
    """
    said = _merged(messages)
    if not said or said[-1].role != "user":
        message = f"{param} must end with a message of the user's"
        raise Refusal(Code.INVALID_REQUEST, message, param=param)
    if not said[-1].text and not said[-1].images:
        raise Refusal(Code.INVALID_REQUEST, "the last message is empty", param=param)
    return Chat("\n\n".join(text for text in system if text), tuple(said[:-1]), said[-1])


def later(text: str) -> Said:
    """What the system says in the middle of a chat: it stands where it was said, in words of the user's side.

    Were it moved to the system prompt, the chat would be another one, and told to another session.
    """
    return Said("user", f"<system>\n{text}\n</system>" if text else "")


def exchanges(history: Sequence[Said]) -> list[tuple[str, str]]:
    """The history as pairs of prompt and answer, for an agent that is told it."""
    pairs: list[tuple[str, str]] = []
    asked = ""
    for said in history:
        if said.role == "user":
            asked = said.text
        else:
            pairs.append((asked, said.text))
            asked = ""
    return pairs


def _results(before: Said, said: Said) -> tuple[ToolAnswer, ...]:
    if said.results:
        results = (*before.results, *said.results)
        return results if before.results else beside(results, before.text, before.images)
    return beside(before.results, said.text, said.images)


def beside(results: tuple[ToolAnswer, ...], text: str, images: tuple[Image, ...]) -> tuple[ToolAnswer, ...]:
    """The results with what the user said beside them: an agent in the middle of a turn hears nothing but results."""
    if not results or not (text or images):
        return results
    last = results[-1]
    said = "\n\n".join(part for part in (last.output, text) if part)
    return (*results[:-1], replace(last, output=said, images=(*last.images, *images)))


def _merged(messages: Sequence[Said]) -> list[Said]:
    merged: list[Said] = []
    for said in messages:
        if merged and merged[-1].role == said.role:
            before = merged.pop()
            text = "\n\n".join(text for text in (before.text, said.text) if text)
            images = (*before.images, *said.images)
            merged.append(Said(said.role, text, images, _results(before, said)))
        elif said.text or said.images or said.role == "user":
            merged.append(said)
    return merged
