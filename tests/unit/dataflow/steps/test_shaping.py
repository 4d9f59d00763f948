"""Shaping a rollout: never too few that work, never too many, one healthy batch after another."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cachefs.dataflow.spec.arguments import Health
from cachefs.dataflow.steps.rollouts.shaping import (
    Standing,
    batches,
    fault,
    ready_p95,
    shape,
    standing,
)
from cachefs.dataflow.steps.rollouts.targets import Replica


def replica(state="ready", *, seconds=1.0, revision="v2", at=100.0):
    ready = seconds if state == "ready" else None
    return Replica(
        id="1", revision=revision, state=state, started_at=at, ready_seconds=ready, failure="oh"
    )


@pytest.mark.parametrize(
    ("batch", "replicas", "found"),
    [
        ((1, 10, 100), 100, (1, 10, 100)),
        ((1, 10, 100), 50, (1, 10, 50)),
        ((1, 10, 100), 200, (1, 10, 100, 200)),
        ((), 7, (7,)),
        ((1, 10), 0, (0,)),
    ],
)
def test_the_last_batch_is_all_of_them(batch, replicas, found):
    assert batches(batch, replicas) == found


def test_failed_replicas_are_not_there():
    found = [replica(), replica("starting"), replica("failed"), replica(revision="v1")]
    assert standing(found, "v2") == Standing(new=2, ready=1, old={"v1": 1})


@given(
    replicas=st.integers(0, 30),
    old=st.integers(0, 30),
    surge=st.integers(1, 10),
    batch=st.lists(st.integers(1, 30), max_size=3, unique=True).map(sorted),
    becomes_ready=st.lists(st.integers(1, 10), min_size=1, max_size=5),
)
def test_an_update_comes_to_its_end_without_ever_too_few_or_too_many(
    replicas, old, surge, batch, becomes_ready
):
    now = Standing(0, 0, {"v1": old} if old else {})
    turns = 0
    for goal in batches(batch, replicas):
        while True:
            wanted = shape(now, "v2", goal=goal, replicas=replicas, surge=surge)
            new, kept = wanted.get("v2", 0), wanted.get("v1", 0)
            assert new + kept <= max(replicas + surge, min(old, replicas))
            assert now.ready + kept >= min(replicas, old)
            assert new >= now.new
            if (new, kept) == (now.new, sum(now.old.values())) and now.ready >= goal:
                break
            turns += 1
            assert turns < 500
            ready = min(new, now.ready + becomes_ready[turns % len(becomes_ready)])
            now = Standing(new, ready, {"v1": kept} if kept else {})
        assert now.new >= goal
    assert now == Standing(replicas, replicas, {})


def test_fewer_of_the_same_revision_are_had_at_once():
    assert shape(Standing(100, 100, {}), "v2", goal=10, replicas=10, surge=1) == {"v2": 10}
    assert shape(Standing(100, 100, {}), "v2", goal=0, replicas=0, surge=1) == {}


def test_a_batch_may_fail_as_often_as_it_says_and_no_more():
    batch = [*[replica()] * 98, *[replica("failed")] * 2]
    assert fault(batch, Health(error_rate=0.02), size=100, now=100.0) == ""
    assert "2 of 100 replicas failed, and 1 may; the last said: oh" in fault(
        batch, Health(error_rate=0.01), size=100, now=100.0
    )
    assert "and 0 may" in fault([replica("failed")], Health(), size=100, now=100.0)


def test_five_of_a_hundred_may_be_late_ready_or_not():
    health = Health(ready_p95=10.0)
    slow = [replica(seconds=11.0)] * 3 + [replica("starting", at=85.0)] * 2
    quick = [replica()] * 90
    assert fault(quick + slow, health, size=100, now=100.0) == ""
    assert "6 of 100" in fault([*quick, *slow, slow[0]], health, size=100, now=100.0)
    assert fault([replica("starting", at=0.0)], health, size=1, now=100.0) == ""
    assert "1 of 1" in fault([replica("starting", at=85.0)], health, size=1, now=100.0)


def test_the_95th_percentile_is_of_the_ready_ones():
    assert ready_p95([]) == 0.0
    assert ready_p95([replica(seconds=float(n)) for n in range(1, 101)]) == 95.0
    assert ready_p95([replica(seconds=2.0), replica("starting")]) == 2.0
