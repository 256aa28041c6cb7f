"""Responses, with openai-python and its helper for streams."""

import openai
from scenario import GIVEN, play

client = openai.OpenAI(base_url=f"{GIVEN['url']}/openai/v1", api_key=GIVEN["key"])


def plain(model, messages):
    """Ask for a whole answer."""
    return client.responses.create(model=model, input=messages).output_text


def stream(model, messages):
    """Ask for an answer in pieces; the helper checks that they add up."""
    with client.responses.stream(model=model, input=messages) as events:
        for event in events:
            if event.type == "response.output_text.delta":
                yield event.delta
        events.get_final_response()


play(openai.__version__, plain, stream)
