"""Messages, with anthropic-python and its helper for streams."""

import anthropic
from scenario import GIVEN, play

client = anthropic.Anthropic(base_url=f"{GIVEN['url']}/anthropic", api_key=GIVEN["key"])


def plain(model, messages):
    """Ask for a whole answer."""
    return client.messages.create(model=model, max_tokens=8000, messages=messages).content[-1].text


def stream(model, messages):
    """Ask for an answer in pieces."""
    with client.messages.stream(model=model, max_tokens=8000, messages=messages) as events:
        yield from events.text_stream
        events.get_final_message()


play(anthropic.__version__, plain, stream)
