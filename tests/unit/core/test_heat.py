"""Files that many read gain replicas, one at a time, and lose them again."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cachefs.core.heat import Heat, HeatPolicy, check_policy, replicas, warmed
from cachefs.errors import ConfigError

POLICY = HeatPolicy(link_bytes=100.0, high=0.5, low=0.2, replicas_max=4, half_life_seconds=10.0)


def test_a_steady_rate_is_the_heat_in_the_end():
    heat = Heat()
    for second in range(1, 101):
        heat = warmed(heat, 70, POLICY, at=float(second))
    assert heat.rate == pytest.approx(70, rel=0.01)


def test_heat_halves_in_a_half_life():
    assert warmed(Heat(80.0, at=5.0), 0, POLICY, at=15.0).rate == pytest.approx(40)


def test_two_reports_at_one_moment_both_count():
    once = warmed(Heat(at=1.0), 50, POLICY, at=1.0)
    assert warmed(once, 50, POLICY, at=1.0).rate == pytest.approx(2 * once.rate)


@pytest.mark.parametrize(
    ("rate", "now", "expected"),
    [
        (50, 1, 1),
        (51, 1, 2),
        (1000, 4, 4),  # the most
        (101, 2, 3),
        (40, 3, 3),  # between the marks
        (39, 3, 2),
        (0, 1, 1),  # the dataset's own
    ],
)
def test_replicas_follow_the_marks(rate, now, expected):
    assert replicas(POLICY, rate, base=1, now=now, workers=9) == expected


@given(st.floats(0, 1e6), st.integers(1, 4), st.integers(0, 12), st.integers(0, 12))
def test_a_file_settles_and_stays(rate, base, now, workers):
    for _ in range(20):
        now = replicas(POLICY, rate, base=base, now=now, workers=workers)
    assert now == replicas(POLICY, rate, base=base, now=now, workers=workers)
    assert base <= now <= max(base, min(POLICY.replicas_max, workers))


@pytest.mark.parametrize(
    "policy",
    [
        HeatPolicy(link_bytes=0),
        HeatPolicy(link_bytes=1, low=0.5, high=0.5),
        HeatPolicy(link_bytes=1, replicas_max=0),
        HeatPolicy(link_bytes=1, half_life_seconds=0),
    ],
)
def test_policies_that_make_no_sense_are_refused(policy):
    with pytest.raises(ConfigError):
        check_policy(policy)
