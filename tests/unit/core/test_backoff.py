"""Backoff: waits grow, are drawn, and end."""

from hypothesis import given
from hypothesis import strategies as st

from cachefs.core.backoff import Backoff

PLAN = Backoff(attempts_limit=4, first_seconds=0.2, wait_seconds_max=0.5)


def test_the_ceiling_doubles_up_to_its_limit():
    assert [PLAN.wait_after(attempt, draw=1.0) for attempt in (1, 2, 3)] == [0.2, 0.4, 0.5]


def test_after_the_last_attempt_it_gives_up():
    assert PLAN.wait_after(4, draw=0.5) is None
    assert PLAN.wait_after(5, draw=0.5) is None


def test_what_the_other_side_asked_for_is_a_lower_bound():
    assert PLAN.wait_after(1, draw=0.0, retry_after_seconds=7.0) == 7.0
    assert PLAN.wait_after(1, draw=1.0, retry_after_seconds=7.0) == 7.2


@given(st.integers(1, 10_000), st.floats(0, 1))
def test_no_drawn_wait_is_longer_than_allowed(attempt, draw):
    wait = Backoff(attempts_limit=20_000, first_seconds=0.1).wait_after(attempt, draw=draw)
    assert wait is not None
    assert 0 <= wait <= 20
