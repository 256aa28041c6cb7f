"""Chat completions, with openai-python."""

import openai
from scenario import GIVEN, play

client = openai.OpenAI(base_url=f"{GIVEN['url']}/openai/v1", api_key=GIVEN["key"])


def plain(model, messages):
    """Ask for a whole answer."""
    return client.chat.completions.create(model=model, messages=messages).choices[0].message.content


def stream(model, messages):
    """Ask for an answer in pieces."""
    for chunk in client.chat.completions.create(model=model, messages=messages, stream=True):
        if text := chunk.choices[0].delta.content:
            yield text


play(openai.__version__, plain, stream)
