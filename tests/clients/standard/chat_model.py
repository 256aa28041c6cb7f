"""LangChain's standard integration tests of a chat model, for one of our surfaces; run in LangChain's environment.

What the daemon cannot do at all is said by the suite's own switches, which skip; all else runs, and may fail.
"""

import base64
import os
from types import SimpleNamespace

from langchain_anthropic import ChatAnthropic
from langchain_openai import ChatOpenAI
from langchain_tests.integration_tests import ChatModelIntegrationTests, chat_models

SURFACES = {"openai": (ChatOpenAI, "/openai/v1"), "anthropic": (ChatAnthropic, "/anthropic")}
MADE, PATH = SURFACES[os.environ["CLINVOKER_SURFACE"]]
PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAgAAAAICAIAAABLbSncAAAAEklEQVR4nGP4z8CAFWEXHbQSACj/P8Fu7N9hAAAAAElFTkSuQmCC"
)

# The suite fetches its pictures from the internet: here is one without it.
chat_models.httpx = SimpleNamespace(get=lambda *_, **__: SimpleNamespace(content=PIXEL))


class TestStandard(ChatModelIntegrationTests):
    """The suite."""

    chat_model_class = MADE
    chat_model_params = {  # noqa: RUF012 - as the suite has it
        "model": "claude",
        "base_url": os.environ["CLINVOKER_URL"] + PATH,
        "api_key": os.environ["CLINVOKER_KEY"],
        "max_retries": 0,
        # ChatOpenAI asks for no usage in a stream when it has a base_url, unless told to.
        **({"stream_usage": True} if MADE is ChatOpenAI else {}),
    }
    model_override_value = "opus"
    supports_image_inputs = True
    supports_image_tool_message = True
    supports_json_mode = True
    supports_anthropic_inputs = True
