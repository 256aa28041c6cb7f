from hypothesis import given
from hypothesis import strategies as st

from actors.lines import LineSplitter, Tail

# Newlines often, or nothing would ever be split.
OUTPUT = st.lists(st.one_of(st.just(b"\n"), st.binary(max_size=12), st.just("\u2028\u0085\r".encode()))).map(
    b"".join
)


def cut(data, places):
    places = sorted({place % (len(data) + 1) for place in places})
    return [data[i:j] for i, j in zip([0, *places], [*places, len(data)], strict=True)]


def split(splitter, feeds):
    lines = [line for feed in feeds for line in splitter.feed(feed)]
    return lines + splitter.finish()


@given(OUTPUT, st.lists(st.integers(min_value=0)), st.integers(min_value=1, max_value=20))
def test_the_lines_do_not_depend_on_how_the_output_was_cut(data, places, limit):
    lines = data.split(b"\n")
    if not lines[-1]:
        lines.pop()
    splitter = LineSplitter(limit)
    assert split(splitter, cut(data, places)) == [line for line in lines if len(line) <= limit]
    assert splitter.oversize == sum(len(line) > limit for line in lines)


@given(OUTPUT, st.lists(st.integers(min_value=0)))
def test_without_long_lines_every_byte_comes_out_again(data, places):
    splitter = LineSplitter()
    assert b"\n".join(split(splitter, cut(data, places))) == data.removesuffix(b"\n")
    assert splitter.oversize == 0


def test_the_lines_around_an_oversize_one_are_kept():
    splitter = LineSplitter(limit=10)
    assert splitter.feed(b"one\n" + b"x" * 8) == [b"one"]
    assert splitter.feed(b"x" * 8) == []
    assert splitter.oversize == 1
    assert splitter.feed(b"x" * 1000) == []
    assert splitter.feed(b"xx\ntwo\nthree") == [b"two"]
    assert splitter.finish() == [b"three"]
    assert splitter.oversize == 1


def test_an_oversize_line_holds_no_memory():
    splitter = LineSplitter(limit=10)
    for _ in range(100):
        splitter.feed(b"x" * 1000)
        assert len(splitter._partial) == 0


@given(st.lists(st.binary(max_size=30)), st.integers(min_value=1, max_value=20))
def test_the_tail_is_the_end_of_everything(feeds, size):
    tail = Tail(size)
    for feed in feeds:
        tail.feed(feed)
    assert bytes(tail) == b"".join(feeds)[-size:]
