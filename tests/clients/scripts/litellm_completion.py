"""litellm, which speaks to either surface: its model names say which."""

from importlib.metadata import version

import litellm
from scenario import GIVEN, play

SURFACES = {"openai": "/openai/v1", "anthropic": "/anthropic"}
surface = GIVEN["surface"]
settings = {"api_base": GIVEN["url"] + SURFACES[surface], "api_key": GIVEN["key"]}


def plain(model, messages):
    """Ask for a whole answer."""
    answer = litellm.completion(model=f"{surface}/{model}", messages=messages, **settings)
    return answer.choices[0].message.content


def stream(model, messages):
    """Ask for an answer in pieces."""
    for chunk in litellm.completion(model=f"{surface}/{model}", messages=messages, stream=True, **settings):
        if text := chunk.choices[0].delta.content:
            yield text


play(version("litellm"), plain, stream)
