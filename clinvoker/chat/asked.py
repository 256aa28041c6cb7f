"""One turn as either dialect asks for it, and what of it a session is told."""

import hashlib
from collections.abc import Mapping
from typing import Any, Literal
from xml.sax.saxutils import escape

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from actors.driver import Capabilities
from actors.errors import Code, Refusal
from actors.messages import ApprovalMode, Options, Prompt, SandboxMode
from actors.replay import with_history
from clinvoker.chat.conversation import Chat, exchanges
from clinvoker.chat.flights import Attempt
from clinvoker.chat.lineage import Line, scope_of
from clinvoker.chat.models import Choice
from clinvoker.chat.sources import Source
from clinvoker.chat.structured import instructed
from clinvoker.chat.tools import Offered, demanding
from clinvoker.service import PromptCall


class Wishes(Struct, frozen=True):
    """What the dialects have no field for: our own headers, `x-clinvoker-*`."""

    workdir: str = ""
    session: str = ""
    approval_mode: ApprovalMode = "default"
    sandbox_mode: SandboxMode = "default"
    side: Literal["true", "false"] = "false"
    """Whether the request is none of a conversation's (`clinvoker.chat.aside`)."""


class Asked(Struct, frozen=True):
    """One turn. `number` tells the turns of one request apart, which asks for several answers."""

    chat: Chat
    choice: Choice
    caller: str = ""
    wishes: Wishes = Wishes()
    source: Source = Source()
    max_tokens: int | None = None
    schema: dict[str, Any] | None = None
    stop: tuple[str, ...] = ()
    body_hash: bytes = b""
    offered: Offered = Offered()
    """The client's own tools."""
    number: int = 0
    follows: str = ""
    """The session that has had exactly the chat's history, where that is known."""
    attempt: Attempt = "some"
    """A first one joins no run in flight."""
    detach: bool = False
    metadata: dict[str, str] = {}
    client: str = ""
    """Whose limits count."""
    aside: bool = False
    """It runs by itself, in a directory of its own, and nothing is kept of it."""


def wishes_of(headers: Mapping[str, str]) -> Wishes:
    """Read our own headers. Raises `Refusal` naming the header at fault."""
    told = {name: headers[f"x-clinvoker-{name}"] for name in _WISHES if f"x-clinvoker-{name}" in headers}
    if told.get("side") == "true" and len(told) > 1:
        name = next(f"x-clinvoker-{name}" for name in told if name != "side")
        raise Refusal(Code.INVALID_REQUEST, f"{name} is not for a request on the side", param=name)
    try:
        return msgspec.convert({name.replace("-", "_"): value for name, value in told.items()}, Wishes)
    except msgspec.ValidationError as error:
        what, _, where = str(error).partition(" - at `$.")
        name = f"x-clinvoker-{where.rstrip('`').replace('_', '-')}"
        raise Refusal(Code.INVALID_REQUEST, f"{name}: {what}", param=name) from None


_WISHES = ("workdir", "session", "approval-mode", "sandbox-mode", "side")


def attempt_of(headers: Mapping[str, str]) -> Attempt:
    """Whether an official SDK has sent this before: it counts how often (clients.md, 1.1)."""
    match headers.get("x-stainless-retry-count"):
        case "0":
            return "first"
        case None:
            return "some"
        case _:
            return "further"


def line_of(asked: Asked, can: Capabilities) -> Line:
    """What must be equal for a conversation to go on in the same session."""
    schema = asked.schema if can.schema else None
    place = (asked.caller, asked.choice, asked.wishes, asked.max_tokens if can.max_tokens else None, schema)
    if asked.offered.tools:
        place = (*place, asked.offered.tools)
    source, system = asked.source, asked.chat.system
    named = scope_of("named", place, source.name, "" if source.agent else system) if source.name else b""
    latest = scope_of("latest", place, source.name) if source.latest else b""
    return Line(scope_of("said", place, system), named, latest)


def may_be_again(asked: Asked) -> bool:
    """Whether the request can be one that was sent before: not all clients that say that it is none can be believed."""
    return asked.attempt != "first" or bool(asked.source.name or asked.wishes.session)


def flight_of(asked: Asked) -> bytes:
    """What is equal when the same request is sent again."""
    parts = (asked.caller, asked.source.name, asked.wishes, asked.number)
    return hashlib.sha256(scope_of(*parts) + asked.body_hash).digest()


def opening_call(asked: Asked, can: Capabilities) -> PromptCall:
    """The call that begins a session, whose agent is told all that was said."""
    chat = asked.chat
    text = with_history(exchanges(chat.history), chat.newest.text)
    if not can.system_prompt:
        text = _instructed(text, chat.system)
    options = Options(
        workdir=asked.wishes.workdir,
        model=asked.choice.model,
        system_prompt=chat.system if can.system_prompt else "",
        approval_mode=asked.wishes.approval_mode,
        sandbox_mode=asked.wishes.sandbox_mode,
        max_tokens=asked.max_tokens if can.max_tokens else None,
        tools=asked.offered.tools,
        # A detached run is looked at later: it must be kept.
        ephemeral=asked.aside and not asked.detach,
    )
    images = tuple(image for said in (*chat.history, chat.newest) for image in said.images)
    return PromptCall(
        _prompt(asked, can, Prompt(text, images)),
        options,
        asked.choice.backend,
        caller=asked.caller,
        client=asked.client,
        detach=asked.detach,
        calls=asked.offered.calls,
        metadata=asked.metadata,
        scratch=asked.aside,
    )


def next_call(asked: Asked, can: Capabilities, session: str, system: str = "") -> PromptCall:
    """The call that sends a session only what is new; `system` is, where its instructions are."""
    newest = asked.chat.newest
    return PromptCall(
        _prompt(asked, can, Prompt(_instructed(newest.text, system), newest.images)),
        backend=asked.choice.backend,
        session_id=session,
        caller=asked.caller,
        client=asked.client,
        detach=asked.detach,
        calls=asked.offered.calls,
    )


def _instructed(text: str, system: str) -> str:
    return f"<instructions>\n{escape(system)}\n</instructions>\n\n{text}" if system else text


def _prompt(asked: Asked, can: Capabilities, prompt: Prompt) -> Prompt:
    prompt = replace(prompt, text=demanding(prompt.text, asked.offered))
    if asked.schema is None:
        return prompt
    if can.schema:
        return Prompt(prompt.text, prompt.images, asked.schema)
    return Prompt(instructed(prompt.text, asked.schema), prompt.images)
