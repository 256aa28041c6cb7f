"""From a request's messages to a chat."""

import re
from collections.abc import Sequence

from actors.errors import Code, Refusal
from actors.messages import Image, ToolAnswer
from clinvoker.api.openai.requests import CallMade, ChatMessage, Part
from clinvoker.api.pictures import picture
from clinvoker.api.requests import check_text
from clinvoker.chat.conversation import Chat, Said, later, make_chat

_DATA = re.compile(r"data:([^,]*);base64,(.*)", re.DOTALL | re.IGNORECASE)


def chat_of(messages: Sequence[ChatMessage], param: str = "messages") -> Chat:
    """Return the chat. Raises `Refusal` naming the part at fault."""
    system: list[str] = []
    said: list[Said] = []
    for index, message in enumerate(messages):
        where = f"{param}[{index}]"
        text, images = _content(message.content, f"{where}.content")
        check_text(text, f"{where}.content")
        match message.role:
            case "system" | "developer" if images:
                place = f"{where}.content"
                raise Refusal(Code.INVALID_REQUEST, f"{place}: what the system says is text", param=place)
            case "system" | "developer" if not said:
                system.append(text)
            case "system" | "developer":
                said.append(later(text))
            case "user":
                said.append(Said("user", text, images))
            case "assistant":
                said.append(Said("assistant", _assistant(message, text)))
            case "tool" | "function":
                said.append(_result(message, text, images))
    return make_chat(system, said, param)


def image_of(url: str, where: str) -> Image:
    """The picture of a `data:` URL. Raises `Refusal`: the daemon fetches nothing."""
    found = _DATA.fullmatch(url)
    if found is None:
        message = f"{where} must be a data: URL of a PNG, JPEG, GIF or WebP image in base64"
        raise Refusal(Code.INVALID_REQUEST, message, param=where)
    return picture(found[1], found[2], where, where)


def _assistant(message: ChatMessage, text: str) -> str:
    calls = [_call(call) for call in message.tool_calls or ()]
    if (legacy := message.function_call) is not None:
        calls.append(f"[call of {legacy.name}: {legacy.arguments}]")
    return "\n".join(part for part in (text or message.refusal or "", *calls) if part)


def _call(call: CallMade) -> str:
    if call.custom is not None:
        return f"[call {call.id} of {call.custom.name}: {call.custom.input}]"
    return f"[call {call.id} of {call.function.name}: {call.function.arguments}]"


def _result(message: ChatMessage, text: str, images: tuple[Image, ...]) -> Said:
    """What a tool of the client's gave: told in words to an agent that has not called it."""
    call = message.tool_call_id
    answers = (ToolAnswer(call, text, images=images),) if call else ()
    which = call or f"of {message.name or 'a tool'}"
    return Said("user", f"[result of the call {which}]\n{text}", images, answers)


def _content(content: str | list[Part] | None, where: str) -> tuple[str, tuple[Image, ...]]:
    if content is None or isinstance(content, str):
        return content or "", ()
    texts: list[str] = []
    images: list[Image] = []
    for index, part in enumerate(content):
        match part.type:
            case "text" | "input_text" | "output_text":
                texts.append(part.text)
            case "refusal":
                texts.append(part.refusal)
            case "image_url" | "input_image" if part.image_url is not None:
                url = part.image_url if isinstance(part.image_url, str) else part.image_url.url
                images.append(image_of(url, f"{where}[{index}].image_url"))
            case _:
                message = f"{where}[{index}]: agents take text and images, no {part.type!r}"
                raise Refusal(Code.UNSUPPORTED, message, param=f"{where}[{index}].type")
    return "\n".join(texts), tuple(images)
