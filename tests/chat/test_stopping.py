"""Cutting an answer at a stop sequence."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clinvoker.chat.stopping import StopFilter


def passed(stop, pieces):
    stopping = StopFilter(stop)
    return "".join(map(stopping.feed, pieces)) + stopping.rest(), stopping.hit


@pytest.mark.parametrize(
    ("stop", "pieces", "text", "hit"),
    [
        (["STOP"], ["one STOP two"], "one ", "STOP"),
        (["STOP"], ["one S", "T", "OP two"], "one ", "STOP"),
        (["STOP"], ["one ST", "ONE"], "one STONE", None),
        (["STOP"], ["one STO"], "one STO", None),
        (["\n"], ["line", "\nmore"], "line", "\n"),
        (["b", "ab"], ["xab"], "x", "ab"),
        (["ab", "abc"], ["xabc"], "x", "ab"),
        ([""], ["all of it"], "all of it", None),
        (["aab"], ["aaab!"], "a", "aab"),
        (["a", "baa"], ["baa"], "b", "a"),
        (["a", "baa"], ["b", "a", "a"], "b", "a"),
    ],
)
def test_text_passes_up_to_the_sequence_that_is_complete_first(stop, pieces, text, hit):
    assert passed(stop, pieces) == (text, hit)


def test_what_cannot_begin_a_sequence_is_not_held_up():
    stopping = StopFilter(["STOP"])
    assert [stopping.feed(piece) for piece in ("one", " S", "o")] == ["one", " ", "So"]


@given(
    st.lists(st.text("ab", max_size=3), max_size=12),
    st.lists(st.text("ab", min_size=1, max_size=3), max_size=3),
)
def test_no_cutting_of_the_pieces_makes_a_difference(pieces, stop):
    whole = "".join(pieces)
    ends = (end for end in range(len(whole) + 1) if whole[:end].endswith(tuple(stop)))
    if (end := next(ends, None)) is None:
        assert passed(stop, pieces) == (whole, None)
    else:
        longest = max((each for each in stop if whole[:end].endswith(each)), key=len)
        assert passed(stop, pieces) == (whole[: end - len(longest)], longest)
