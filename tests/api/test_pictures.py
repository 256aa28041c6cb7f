"""Pictures, as both dialects send them."""

import msgspec
import pytest

from actors.errors import Refusal
from actors.messages import Image
from clinvoker.api.anthropic.reading import read_chat
from clinvoker.api.anthropic.request import MessagesRequest
from clinvoker.api.openai.messages import chat_of
from clinvoker.api.openai.requests import ChatRequest

PIXEL = "iVBORw0KGgo="


def openai(media_type, data):
    url = f"data:{media_type};base64,{data}"
    content = [{"type": "image_url", "image_url": {"url": url}}]
    request = {"model": "m", "messages": [{"role": "user", "content": content}]}
    return chat_of(msgspec.convert(request, ChatRequest).messages)


def anthropic(media_type, data):
    source = {"type": "base64", "media_type": media_type, "data": data}
    content = [{"type": "image", "source": source}]
    request = {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": content}]}
    return read_chat(msgspec.convert(request, MessagesRequest))


both = pytest.mark.parametrize("dialect", [openai, anthropic])


@both
@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("image/png", "image/png"),
        ("image/jpg", "image/jpeg"),
        ("IMAGE/PNG", "image/png"),
        ("image/Jpg; name=a.jpg", "image/jpeg"),
        ("image/webp;x=1", "image/webp"),
    ],
)
def test_a_media_type_is_taken_as_what_it_means(dialect, written, meant):
    assert dialect(written, f"{PIXEL[:4]}\n{PIXEL[4:]}").newest.images == (Image(meant, PIXEL),)


@both
@pytest.mark.parametrize(
    ("media_type", "data"),
    [
        ("image/png", ""),
        ("image/png", " \n"),
        ("image/png", "iVBORw0"),
        ("image/png", "no base64!"),
        ("image/png", "é"),
        ("image/bmp", PIXEL),
        ("text/html", PIXEL),
        ("", PIXEL),
    ],
)
def test_what_is_no_picture_is_refused_by_its_place(dialect, media_type, data):
    with pytest.raises(Refusal) as refused:
        dialect(media_type, data)
    assert refused.value.param is not None
    assert refused.value.param.startswith("messages[0].content[0].")


def test_the_scheme_of_a_data_url_is_no_matter_of_case():
    content = [{"type": "image_url", "image_url": f"DATA:image/png;BASE64,{PIXEL}"}]
    request = {"model": "m", "messages": [{"role": "user", "content": content}]}
    chat = chat_of(msgspec.convert(request, ChatRequest).messages)
    assert chat.newest.images == (Image("image/png", PIXEL),)
