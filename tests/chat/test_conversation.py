"""A chat in one shape, whatever dialect it came in."""

import pytest

from actors.errors import Refusal
from actors.messages import Image
from clinvoker.chat.conversation import Said, exchanges, make_chat

PICTURE = Image("image/png", "eA==")


def test_the_users_last_word_is_the_newest_message_and_the_rest_is_history():
    chat = make_chat(["be", "", "brief"], [Said("user", "a"), Said("assistant", "b"), Said("user", "c")])
    assert chat.system == "be\n\nbrief"
    assert chat.history == (Said("user", "a"), Said("assistant", "b"))
    assert chat.newest == Said("user", "c")


def test_messages_of_one_side_are_one():
    chat = make_chat([], [Said("user", "a", (PICTURE,)), Said("user", ""), Said("user", "b", (PICTURE,))])
    assert chat.newest == Said("user", "a\n\nb", (PICTURE, PICTURE))


def test_an_empty_answer_is_left_out():
    chat = make_chat([], [Said("user", "a"), Said("assistant", ""), Said("user", "b")])
    assert (chat.history, chat.newest.text) == ((), "a\n\nb")


@pytest.mark.parametrize("messages", [[], [Said("assistant", "a")], [Said("user", "")]])
def test_a_chat_without_a_question_is_refused(messages):
    with pytest.raises(Refusal) as refused:
        make_chat([], messages)
    assert refused.value.param == "messages"


def test_the_history_is_told_in_pairs():
    history = [Said("assistant", "hi"), Said("user", "a"), Said("assistant", "b")]
    assert exchanges(history) == [("", "hi"), ("a", "b")]
