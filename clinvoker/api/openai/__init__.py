"""The OpenAI surface, `/openai/v1` (contract, section 4).

tools        a client's own tools
models       the models, which are the backends
requests     what a chat request may say
messages     from its messages to a chat
asking       from a request to a turn
answers      what a chat completion looks like, whole and in chunks
chat         /chat/completions
completions  /completions, the legacy one, mapped to chat
streams      how streams go out, and how they fail
responses    /responses, with these:
  responses_request  what one may say
  responses_answer   what one looks like
  responses_stream   its events
  responses_past     those that were made before
  responses_input    what one's agent was told
  responses_references  items that are named by their ids
  responses_history  what was said up to one
"""

from quart_trio import QuartTrio

from clinvoker.api.openai import chat, completions, models, responses
from clinvoker.chat.turn import Chats


def register(app: QuartTrio, chats: Chats) -> None:
    """Add the routes."""
    models.register(app, chats.service)
    chat.register(app, chats)
    completions.register(app, chats)
    responses.register(app, chats)
