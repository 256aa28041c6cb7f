"""Whatever an agent repeats, the reader sees each text once."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.messages import Complete, Message, Thinking
from actors.outbox import Outbox
from clinvoker.backends.answer import SEPARATOR, Answer

characters = st.characters(exclude_categories=["Cs", "Co"])
pieces = st.lists(st.text(characters, max_size=5), max_size=8)


async def said(out: Outbox) -> str:
    out.put(Complete("end_turn"))
    return "".join(event.text for event in await out.take() if isinstance(event, Message))


@given(blocks=st.lists(pieces, max_size=4))
async def test_blocks_are_said_once_and_set_off(blocks):
    out = Outbox()
    answer = Answer(out)
    for block in blocks:
        answer.begin_block()
        for piece in block:
            answer.delta(piece)
        answer.whole("".join(block))
    assert await said(out) == SEPARATOR.join(filter(None, ("".join(block) for block in blocks)))


@given(text=st.text(characters, max_size=30), data=st.data())
async def test_a_repetition_that_agrees_is_swallowed_and_completed(text, data):
    cut = data.draw(st.integers(0, len(text)))
    out = Outbox()
    answer = Answer(out)
    answer.begin_block()
    for character in text[:cut]:
        answer.delta(character)
    answer.restart_block()
    for character in text[: data.draw(st.integers(0, len(text)))]:
        answer.delta(character)
    answer.whole(text)
    assert await said(out) == text


@given(
    first=st.text(characters, min_size=1, max_size=10), second=st.text(characters, min_size=1, max_size=10)
)
async def test_after_a_restart_nothing_said_is_lost_and_the_second_text_is_there_in_full(first, second):
    out = Outbox()
    answer = Answer(out)
    answer.begin_block()
    answer.delta(first)
    answer.restart_block()
    for character in second:
        answer.delta(character)
    answer.whole(second)
    text = await said(out)
    if second.startswith(first):
        assert text == second
    elif first.startswith(second):
        assert text == first
    else:
        assert text == first + SEPARATOR + second


@given(block=pieces, data=st.data())
async def test_what_pieces_were_lost_of_is_never_said_twice(block, data):
    kept = [piece for piece in block if data.draw(st.booleans())]
    out = Outbox()
    answer = Answer(out)
    answer.begin_block()
    for piece in kept:
        answer.delta(piece)
    answer.whole("".join(block))
    text = await said(out)
    characters_left = iter("".join(block))
    assert text.startswith("".join(kept))
    assert all(character in characters_left for character in text)  # a subsequence


@pytest.mark.parametrize(
    ("heard", "whole", "told"),
    [
        (["pair ", " joined"], "pair \U0001f642 joined", "pair  joined"),
        (["one ", "three "], "one two three four", "one three four"),
        (["two "], "one two three", "two three"),
        (["another "], "one two three", "another \n\none two three"),
    ],
)
async def test_after_a_lost_piece_only_the_tail_is_said(heard, whole, told):
    out = Outbox()
    answer = Answer(out)
    answer.begin_block()
    for piece in heard:
        answer.delta(piece)
    answer.whole(whole)
    assert await said(out) == told


async def test_a_character_cut_in_two_is_whole():
    out = Outbox()
    answer = Answer(out)
    answer.begin_block()
    for piece in ("pair ", "\U0010d83d", "\U0010de42", " joined"):  # halves, as `surrogates.mend` gives them
        answer.delta(piece)
    answer.whole("pair \U0001f642 joined")
    assert await said(out) == "pair \U0001f642 joined"


async def test_a_block_that_goes_on_in_mid_sentence_is_not_set_off():
    out = Outbox()
    answer = Answer(out)
    answer.begin_block()
    answer.delta("the end is")
    answer.begin_block(separate=False)
    answer.delta(" near")
    answer.whole(" near")
    assert await said(out) == "the end is near"


async def test_reasoning_is_reconciled_alike():
    out = Outbox()
    answer = Answer(out, Thinking)
    answer.begin_block()
    answer.delta("a")
    answer.whole("ab")
    assert await out.take() == [Thinking("a"), Thinking("b")]


@pytest.mark.parametrize("repeats", [50_000])
async def test_a_long_repetition_costs_no_more_than_the_first_time(repeats):
    out = Outbox()
    answer = Answer(out)
    answer.begin_block()
    answer.delta("w " * repeats)
    answer.restart_block()
    answer.whole("w " * repeats)
    assert await said(out) == "w " * repeats
