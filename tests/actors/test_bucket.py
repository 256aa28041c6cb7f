"""Token buckets: how many pass, how many are left, and when the next one may."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.bucket import Buckets, Rate


def test_a_burst_passes_and_then_one_at_a_time():
    buckets, rate = Buckets(), Rate(2, 3)
    assert [buckets.take("me", rate, 10.0).remaining for _ in range(3)] == [2, 1, 0]
    refused = buckets.take("me", rate, 10.0)
    assert (refused.remaining, refused.limit, refused.retry_after) == (0, 3, pytest.approx(0.5))
    assert buckets.take("me", rate, 10.5).retry_after is None
    assert buckets.take("me", rate, 10.5).retry_after is not None


def test_what_it_says_is_when_the_next_passes_to_the_moment():
    buckets, rate = Buckets(), Rate(3, 2)
    now = 1e6
    while (standing := buckets.take("me", rate, now)).retry_after is None:
        pass
    early = now + standing.retry_after * 0.999
    assert buckets.take("me", rate, early).retry_after is not None
    assert buckets.take("me", rate, now + standing.retry_after).retry_after is None


def test_it_says_when_it_is_full_again():
    buckets, rate = Buckets(), Rate(4, 8)
    for _ in range(5):
        standing = buckets.take("me", rate, 0.0)
    assert standing.reset == pytest.approx(5 / 4)
    assert buckets.take("me", rate, 5 / 4).remaining == 7


def test_callers_have_buckets_of_their_own():
    buckets, rate = Buckets(), Rate(1, 1)
    assert all(buckets.take(caller, rate, 0.0).retry_after is None for caller in "abc")


def test_full_buckets_are_forgotten():
    buckets, rate = Buckets(), Rate(100, 1)
    for number in range(100_000):
        buckets.take(f"address {number}", rate, number / 100)
    assert len(buckets) < 5000


@given(st.floats(0.1, 1000), st.integers(1, 50), st.lists(st.floats(0, 5), min_size=1, max_size=200))
def test_in_no_window_pass_more_than_the_bucket_holds(per_second, burst, pauses):
    buckets, rate, now = Buckets(), Rate(per_second, burst), 0.0
    passed = []
    for pause in pauses:
        now += pause
        if buckets.take("me", rate, now).retry_after is None:
            passed.append(now)
    for index, begin in enumerate(passed):
        for number, end in enumerate(passed[index:], 1):
            assert number <= burst + (end - begin) * per_second * (1 + 1e-6) + 1e-3
