"""Requests on the side of a conversation are known by their header, and by the words that well-known clients all send."""

from types import SimpleNamespace

import pytest

from actors.errors import Refusal
from clinvoker.chat.aside import is_aside, put_aside
from clinvoker.chat.asked import Asked, Wishes, opening_call, wishes_of
from clinvoker.chat.conversation import Chat, Said
from clinvoker.chat.models import Choice
from clinvoker.chat.sources import Source

TITLE = "### Task:\nGenerate a concise, 3-5 word title with an emoji summarizing the chat history.\n<chat_history>"
TAGS = "### Task:\nGenerate 1-3 broad tags categorizing the main themes of the chat history."
FOLLOW_UPS = (
    "### Task:\nSuggest 3-5 relevant follow-up questions or prompts that the user might naturally ask next."
)
QUERIES = "### Task:\nAnalyze the chat history to determine the necessity of generating search queries."
LIBRECHAT = "Provide a concise, 5-word-or-less title for the conversation, using title case conventions."
OPENCODE = "You are a title generator. You output ONLY a thread title. Nothing else."
READ_ONLY = SimpleNamespace(
    approval_modes=("default", "auto", "none"),
    sandbox_modes=("default", "read-only", "full"),
    system_prompt=True,
    max_tokens=True,
    schema=True,
)
BARE = SimpleNamespace(
    approval_modes=("default",),
    sandbox_modes=("default", "full"),
    system_prompt=False,
    max_tokens=False,
    schema=False,
)


def asked(newest, system="", **fields):
    return Asked(Chat(system, (), Said("user", newest)), Choice("claude", ""), **fields)


@pytest.mark.parametrize("newest", [TITLE, TAGS, FOLLOW_UPS, QUERIES, LIBRECHAT])
def test_what_open_webui_and_librechat_ask_is_known(newest):
    assert is_aside(asked(newest))


def test_what_opencode_and_claude_code_ask_is_known():
    assert is_aside(asked("Generate a title for this conversation:", OPENCODE))
    assert is_aside(asked("quota", max_tokens=1))


@pytest.mark.parametrize(
    "turn",
    [
        asked("Generate a concise, 3-5 word title for my book"),
        asked(f"Why does Open WebUI send this?\n{TITLE}"),
        asked("### Task:\nFix the bug"),
        asked("quota", max_tokens=1000),
        asked("What is my quota?", max_tokens=1),
        asked("hello", f"You are helpful. {OPENCODE}"),
    ],
)
def test_an_ordinary_prompt_that_only_speaks_of_them_is_none(turn):
    assert not is_aside(turn)


def test_any_client_can_say_so():
    assert is_aside(asked("anything", wishes=wishes_of({"x-clinvoker-side": "true"})))
    assert not is_aside(asked("anything", wishes=wishes_of({"x-clinvoker-side": "false"})))


@pytest.mark.parametrize(
    ("headers", "name"),
    [
        ({"x-clinvoker-side": "yes"}, "x-clinvoker-side"),
        ({"x-clinvoker-side": "true", "x-clinvoker-workdir": "/project"}, "x-clinvoker-workdir"),
    ],
)
def test_a_header_that_says_nothing_or_contradicts_is_named(headers, name):
    with pytest.raises(Refusal) as refused:
        wishes_of(headers)
    assert refused.value.param == name


def test_it_gets_as_little_leave_as_the_agent_offers_in_no_directory_of_the_callers():
    wishes = Wishes(workdir="/project", session="ses_1", approval_mode="auto", sandbox_mode="full")
    turn = put_aside(asked(TITLE, wishes=wishes, source=Source("chat"), follows="ses_2"), READ_ONLY)
    call = opening_call(turn, READ_ONLY)
    assert (call.session_id, call.options.workdir, call.scratch, call.options.ephemeral) == (
        "",
        "",
        True,
        True,
    )
    assert (call.options.approval_mode, call.options.sandbox_mode) == ("none", "read-only")
    assert turn.source == Source()


def test_an_agent_that_has_no_tighter_modes_keeps_its_own():
    call = opening_call(put_aside(asked(TITLE), BARE), BARE)
    assert (call.options.approval_mode, call.options.sandbox_mode) == ("default", "default")
