"""LangChain's chat models, of either surface."""

from importlib.metadata import version

from langchain_anthropic import ChatAnthropic
from langchain_openai import ChatOpenAI
from scenario import GIVEN, play

SURFACES = {"openai": (ChatOpenAI, "/openai/v1"), "anthropic": (ChatAnthropic, "/anthropic")}
surface = GIVEN["surface"]
made, path = SURFACES[surface]


def ask(model):
    """Make the chat model."""
    return made(model=model, base_url=GIVEN["url"] + path, api_key=GIVEN["key"])


def plain(model, messages):
    """Ask for a whole answer."""
    return ask(model).invoke(messages).text


def stream(model, messages):
    """Ask for an answer in pieces."""
    yield from (chunk.text for chunk in ask(model).stream(messages) if chunk.text)


play(version(f"langchain-{surface}"), plain, stream)
