"""What a policy decides: on single moments, and on traces in a closed loop."""

import math
from dataclasses import replace
from datetime import UTC, datetime
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cachefs.core import cron
from cachefs.core.autoscaling import (
    Idle,
    Observation,
    Policy,
    Scheduled,
    Target,
    check_policy,
    decide,
    recommend,
)
from cachefs.errors import ConfigError

DAY = 86_400.0
QUEUE = Target("queued_fills", 4.0)
ROOM = Target("capacity", 0.8)
HITS = Target("hit_ratio", 0.9)
MIDNIGHT = datetime(2026, 11, 20, tzinfo=UTC).timestamp()


def seen(at=MIDNIGHT, workers=2, **values):
    return Observation(at=at, workers=workers, **values)


def decided(policy, *history, changed_at=None):
    decision = decide(policy, history, changed_at=changed_at)
    return None if decision is None else (decision.workers, decision.reason)


def test_a_queue_grows_the_pool_in_proportion_and_says_why():
    policy = Policy(rules=(QUEUE,), most=10)
    assert decided(policy, seen(queued_fills=24)) == (
        6,
        "12 fills are queued a worker, 4 are aimed at",
    )


def test_a_measure_near_its_target_changes_nothing():
    policy = Policy(rules=(ROOM,), most=10)
    assert decided(policy, seen(capacity_used=0.87)) is None
    assert decided(policy, seen(capacity_used=0.95)) == (
        3,
        "95% of the capacity is used, 80% is aimed at",
    )


def test_hits_are_worth_a_worker_only_while_room_is_what_they_lack():
    policy = Policy(rules=(HITS,), most=10)
    assert recommend(policy, seen(hit_ratio=0.5, capacity_used=0.95)).workers == 3
    assert recommend(policy, seen(hit_ratio=0.5, capacity_used=0.3)).workers == policy.least
    assert recommend(policy, seen(hit_ratio=None, capacity_used=0.95)).workers == 2


def test_the_highest_rule_counts_within_the_bounds():
    policy = Policy(rules=(QUEUE, ROOM), least=2, most=5)
    busy = seen(queued_fills=80, capacity_used=0.1)
    assert decided(policy, busy) == (5, "40 fills are queued a worker, 4 are aimed at; 5 at most")
    assert recommend(policy, seen(queued_fills=0)).workers == 2


def test_a_pool_shrinks_slowly_when_less_was_enough_for_the_calm_time():
    policy = Policy(rules=(QUEUE,), most=10, calm_seconds=300)
    history = [
        seen(at, workers=8, queued_fills=queue)
        for at, queue in ((0, 0), (100, 16), (200, 4), (300, 0))
    ]
    assert decided(policy, *history) == (6, "2 fills are queued a worker, 4 are aimed at")
    assert decided(policy, *history, changed_at=100.0) is None
    assert decided(policy, *history[1:]) is None
    nearly = [replace(one, queued_fills=7 * 4) for one in history]
    assert decided(policy, *nearly) == (7, "3.5 fills are queued a worker, 4 are aimed at")


def test_nothing_changes_while_the_last_change_cools_down():
    policy = Policy(rules=(QUEUE,), most=10, cooldown_seconds=60)
    busy = seen(at=1000.0, queued_fills=100)
    assert decided(policy, busy, changed_at=950.0) is None
    assert decided(policy, busy, changed_at=940.0) is not None


def test_an_idle_pool_goes_to_zero_at_once_and_is_woken_at_once():
    policy = Policy(rules=(QUEUE, Idle(600)), most=4, cooldown_seconds=3600)
    assert decided(policy, seen(idle_seconds=599, queued_fills=8)) is None
    assert decided(policy, seen(idle_seconds=600)) == (0, "nothing was read for 10 min")
    asleep = seen(workers=0, idle_seconds=600)
    assert decided(policy, asleep, changed_at=asleep.at) is None
    woken = replace(asleep, idle_seconds=0.0)
    assert decided(policy, woken, changed_at=woken.at) == (1, "at least 1 are wanted")


def test_a_pool_without_a_rule_for_idleness_never_goes_to_zero():
    policy = Policy(rules=(QUEUE,), least=0, most=4)
    assert recommend(policy, seen(workers=1, idle_seconds=1e9)).workers == 1


@pytest.mark.parametrize(
    ("hour", "workers"), [(7.99, None), (8.0, 6), (12.0, 6), (17.99, 6), (18.0, None)]
)
def test_a_schedule_holds_from_its_beginning_to_its_end(hour, workers):
    office = Scheduled(cron.parse("0 8 * * *"), cron.parse("0 18 * * *"), 6)
    policy = Policy(rules=(office, QUEUE), most=10)
    found = decided(policy, seen(at=MIDNIGHT + hour * 3600))
    assert found == (None if workers is None else (6, "6 from `0 8 * * *` to `0 18 * * *`"))


@given(
    st.lists(
        st.builds(
            Observation,
            at=st.floats(0, 1e9),
            workers=st.integers(0, 20),
            capacity_used=st.floats(0, 1),
            queued_fills=st.floats(0, 1e6),
            hit_ratio=st.none() | st.floats(0, 1),
            idle_seconds=st.floats(0, 1e6),
        ),
        min_size=1,
        max_size=8,
    ),
    st.integers(0, 5),
    st.sampled_from([(QUEUE,), (ROOM, HITS), (QUEUE, Idle(60)), (Idle(60),), ()]),
)
def test_a_decision_is_within_the_bounds_or_zero_for_idleness(history, least, rules):
    policy = Policy(rules=rules, least=least, most=5)
    history.sort(key=lambda one: one.at)
    decision = decide(policy, history, changed_at=None)
    if decision is None:
        return
    assert decision.reason
    assert decision.workers != history[-1].workers
    idle = Idle(60) in rules and history[-1].idle_seconds >= 60
    assert decision.workers <= policy.most
    assert decision.workers >= least or idle


def replay(policy, load, *, seconds, step=15.0):
    """Let a policy follow a load in a closed loop; return who was there, and each change.

    ``load(at)`` is in fills a second; a worker does one a second, and what is left over queues.
    """
    workers, queue, changed_at, idle_since = 0, 0.0, None, 0.0
    history, counts, changes = [], [], []
    for number in range(int(seconds / step)):
        at = number * step
        arrived = load(at) * step
        if arrived:
            idle_since = at
        queue = max(0.0, queue + arrived - workers * step)
        history.append(
            Observation(at=at, workers=workers, queued_fills=queue, idle_seconds=at - idle_since)
        )
        history = [one for one in history if at - one.at <= 2 * policy.calm_seconds]
        decision = decide(policy, history, changed_at=changed_at)
        if decision is not None:
            workers, changed_at = decision.workers, at
            changes.append((at, decision))
        counts.append((at, workers, queue))
    return counts, changes


def test_on_a_day_with_two_peaks_the_pool_follows_without_flapping():
    """Two peaks of 8 fills a second, at 9:00 and at 15:00, nothing at night."""

    def load(at):
        hour = at / 3600 % 24
        peaks = (math.exp(-((hour - peak) ** 2) / 2) for peak in (9, 15))
        level = 8 * sum(peaks)
        return level if level > 0.05 else 0.0

    policy = Policy(
        rules=(QUEUE, Idle(1800)), least=0, most=12, cooldown_seconds=60, calm_seconds=600
    )
    counts, changes = replay(policy, load, seconds=2 * DAY)
    peak = [workers for at, workers, _ in counts if 8.5 <= at / 3600 % 24 <= 9.5]
    night = [workers for at, workers, _ in counts if 2 <= at / 3600 % 24 <= 4 and at > 3600 * 3]
    assert max(peak) >= 8
    assert set(night) == {0}
    assert max(queue for at, _, queue in counts) < 8 * 60 * 10  # ten minutes of the peak
    assert len(changes) < 2 * 14 * 6  # six an hour, while there is a load
    assert all(later - earlier >= 60 for (earlier, _), (later, _) in pairwise(changes))


@pytest.mark.parametrize(
    "policy",
    [
        Policy(rules=(), least=3, most=2),
        Policy(rules=(), least=0, most=0),
        Policy(rules=(Target("capacity", 1.5),), most=2),
        Policy(rules=(Target("hit_ratio", 0),), most=2),
        Policy(rules=(Idle(0),), most=2),
        Policy(rules=(Scheduled(cron.parse("@daily"), cron.parse("@hourly"), 9),), most=2),
        Policy(rules=(), most=2, cooldown_seconds=-1),
    ],
)
def test_policies_that_make_no_sense_are_refused(policy):
    with pytest.raises(ConfigError):
        check_policy(policy)
