"""From a request to a turn."""

from typing import Any

from quart import request

from actors.errors import Code, Refusal
from clinvoker.api.exchange import caller, client
from clinvoker.api.openai.requests import ChatRequest, Naming, ResponseFormat
from clinvoker.api.openai.tools import of_chat
from clinvoker.api.requests import fingerprint
from clinvoker.chat.asked import Asked, attempt_of, wishes_of
from clinvoker.chat.conversation import Chat
from clinvoker.chat.models import resolve
from clinvoker.chat.sources import source_of
from clinvoker.chat.structured import check_schema
from clinvoker.chat.tools import Offered
from clinvoker.service import Service


def asked_of(
    service: Service,
    told: Naming,
    chat: Chat,
    raw: bytes,
    *,
    max_tokens: int | None = None,
    stop: str | list[str] | None = None,
    schema: dict[str, Any] | None = None,
    tools: Offered = Offered(),  # noqa: B008 - frozen
) -> Asked:
    """The turn that a request asks for. Raises `Refusal` naming the field at fault."""
    headers = {name.lower(): value for name, value in request.headers.items()}
    named = {
        "metadata": told.metadata,
        "session_id": told.session_id,
        "prompt_cache_key": told.prompt_cache_key,
        "conversation": told.conversation,
    }
    return Asked(
        chat,
        resolve(service.backends, told.model),
        caller(),
        wishes_of(headers),
        source_of(headers, named),
        max_tokens=max_tokens,
        schema=schema,
        offered=tools,
        stop=tuple(each for each in _listed(stop) if each),
        # Codex says of itself what it says in another order each time (0.169.0).
        body_hash=fingerprint(raw, request.path, without="client_metadata"),
        attempt=attempt_of(headers),
        client=client(),
    )


def check_modalities(told: ChatRequest) -> None:
    """Raise `Refusal` if more is asked for than text."""
    if set(told.modalities or ()) - {"text"}:
        raise Refusal(Code.UNSUPPORTED, "modalities: agents answer in text alone", param="modalities")


def tools_of(told: ChatRequest) -> Offered:
    """The client's own tools. Raises `Refusal` naming the field at fault."""
    if told.functions and told.tool_choice != "none":
        raise Refusal(Code.UNSUPPORTED, "functions are called tools by now: send tools", param="functions")
    tools = of_chat(told.tools, told.tool_choice, parallel=told.parallel_tool_calls)
    if tools.tools and (told.n or 1) > 1:
        message = "an answer that may call tools goes on with the next request: there can be but one"
        raise Refusal(Code.UNSUPPORTED, message, param="n")
    return tools


def schema_of(wanted: ResponseFormat | None) -> dict[str, Any] | None:
    """The schema that the answer must satisfy. Raises `Refusal` if it is none."""
    if wanted is None or wanted.type == "text":
        return None
    if wanted.type == "json_object":
        return {"type": "object"}
    param = "response_format.json_schema"
    if wanted.json_schema is None or wanted.json_schema.schema is None:
        raise Refusal(Code.INVALID_REQUEST, f"{param} needs a schema", param=param)
    check_schema(wanted.json_schema.schema, f"{param}.schema")
    return wanted.json_schema.schema


def _listed(stop: str | list[str] | None) -> list[str]:
    return [stop] if isinstance(stop, str) else stop or []
