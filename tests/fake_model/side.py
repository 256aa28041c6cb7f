"""Side requests: the CLIs' own errands (titles, routers, summaries), which must not run the user's directives."""

from __future__ import annotations

from tests.fake_model.conversation import Conversation
from tests.fake_model.reply import Reply, split

_BY_SYSTEM = {
    "You are a title generator": "fake title",  # opencode
    "Task Routing AI": '{"reasoning":"fake","model_choice":"flash"}',  # gemini
    "Generate a concise, sentence-case title": '{"title":"fake title"}',  # claude
    "Analyze if this message indicates a new conversation topic": '{"isNewTopic":false,"title":null}',  # claude
}
_BY_TEXT = {
    "Summarize the user's primary intent": "fake summary",  # gemini, on resume
    "Analyze *only* the content and structure of your immediately preceding response": (
        '{"reasoning":"fake","next_speaker":"user"}'  # gemini
    ),
}


def answer(talk: Conversation) -> Reply | None:
    """Give the harmless answer to an errand, or nothing if the user is speaking."""
    for mark, said in _BY_SYSTEM.items():
        if mark in talk.system:
            return Reply(words=split(said))
    for mark, said in _BY_TEXT.items():
        if mark in talk.text:
            return Reply(words=split(said))
    return None
