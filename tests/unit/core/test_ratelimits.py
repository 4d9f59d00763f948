"""Token buckets and pauses, on a clock of numbers."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cachefs.core.ratelimits import PAUSE_SECONDS_MAX, Pause, TokenBucket


def test_a_burst_is_free_and_then_the_rate_holds():
    bucket = TokenBucket(10, now=0)
    assert [bucket.reserve(5, now=0) for _ in range(4)] == [0, 0, 0.5, 1.0]


def test_time_pays_the_debt_and_never_more_than_the_burst():
    bucket = TokenBucket(10, now=0)
    bucket.reserve(20, now=0)
    assert bucket.reserve(0, now=1) == 0
    assert bucket.reserve(10, now=1000) == 0
    assert bucket.reserve(1, now=1000) == 0.1


def test_more_than_the_bucket_holds_waits_for_long_but_not_for_ever():
    assert TokenBucket(1, now=0).reserve(8, now=0) == 7


def test_no_rate_is_no_limit():
    bucket = TokenBucket(0, now=0)
    assert [bucket.reserve(10**12, now=0) for _ in range(3)] == [0, 0, 0]


def test_what_is_given_back_serves_the_next():
    bucket = TokenBucket(10, now=0)
    bucket.reserve(20, now=0)
    bucket.give_back(20, now=0)
    assert bucket.reserve(10, now=0) == 0


def test_a_clock_read_out_of_order_takes_nothing_away():
    bucket = TokenBucket(10, now=5)
    bucket.reserve(10, now=5)
    assert bucket.reserve(0, now=4) == 0
    assert bucket.reserve(10, now=6) == 0


@given(st.lists(st.tuples(st.floats(0, 3), st.floats(0, 50)), max_size=40))
def test_the_rate_is_never_exceeded_over_the_whole_run(requests):
    rate, now, ready = 10.0, 0.0, []
    bucket = TokenBucket(rate, now=now)
    for pause, amount in requests:
        now += pause
        ready.append((now + bucket.reserve(amount, now=now), amount))
    for at, _ in ready:
        used = sum(amount for when, amount in ready if when <= at)
        assert used <= rate * at + rate + 1e-6


def test_a_shorter_pause_does_not_end_a_longer_one():
    pause = Pause()
    assert pause.remaining(now=0) == 0
    pause.extend(10, now=0)
    pause.extend(1, now=1)
    assert pause.remaining(now=4) == 6
    assert pause.remaining(now=11) == 0
    with pytest.raises(AttributeError):
        pause.other = 1


def test_one_absurd_demand_does_not_stop_an_origin_for_ever():
    pause = Pause()
    pause.extend(1e9, now=5.0)
    assert pause.remaining(now=5.0) == PAUSE_SECONDS_MAX
    assert pause.remaining(now=6.0 + PAUSE_SECONDS_MAX) == 0.0
