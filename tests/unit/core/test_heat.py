"""A block that many ask for at once is sent by several workers, each to its part of the crowd."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cachefs.core.heat import Crowd
from cachefs.core.names import WorkerId

LIMIT = 4
NEXT = [WorkerId(name) for name in ("b", "c", "d")]


def crowd_of(sending=LIMIT):
    crowd = Crowd(LIMIT)
    for _ in range(sending):
        crowd.begin()
    return crowd


def refer(crowd, count, *, replicas=NEXT, near=0, now=0.0):
    """Return whom so many are referred to, one after the other; those sent here are sent to."""
    chosen = []
    for _ in range(count):
        worker = crowd.refer(replicas, near=near, now=now)
        if worker is None:
            crowd.begin()
        chosen.append(worker)
    return chosen


def test_the_owner_serves_everybody_below_the_limit():
    assert refer(crowd_of(0), LIMIT) == [None] * LIMIT


def test_who_is_too_many_is_referred_and_a_replica_is_filled_up_before_the_next_one_is_made():
    assert refer(crowd_of(), 3 * LIMIT) == ["b"] * LIMIT + ["c"] * LIMIT + ["d"] * LIMIT


def test_when_all_have_as_many_the_crowd_is_shared_evenly_with_the_owner():
    crowd = crowd_of()
    chosen = refer(crowd, 3 * LIMIT + 8)[3 * LIMIT :]
    assert sorted(map(str, chosen)) == ["None", "None", "b", "b", "c", "c", "d", "d"]


def test_without_anybody_else_the_owner_serves_all():
    assert refer(crowd_of(), 5, replicas=[]) == [None] * 5


def test_who_has_been_served_makes_room():
    crowd = crowd_of()
    assert refer(crowd, LIMIT) == ["b"] * LIMIT
    crowd.end(2.0)
    crowd.begin()
    assert refer(crowd, 1, now=1.9) == ["c"]
    assert refer(crowd, 1, now=2.0) == ["b"]


def test_until_one_of_ours_has_been_served_nobody_elses_counts_as_served():
    crowd = crowd_of()
    refer(crowd, LIMIT)
    assert refer(crowd, 1, now=1e6) == ["c"]


def test_replicas_share_a_crowd_that_has_shrunk():
    """What the owner reckons may be wrong; then it is wrong for all of them alike."""
    crowd = crowd_of()
    refer(crowd, 2 * LIMIT)
    crowd.end(1.0)
    crowd.begin()
    chosen = [worker for at in range(6) for worker in refer(crowd, 1, now=10.0 + at)]
    assert sorted(chosen) == ["b"] * 3 + ["c"] * 3


def test_a_worker_of_the_askers_zone_comes_first_although_another_has_a_copy():
    crowd = crowd_of()
    assert refer(crowd, 1, replicas=[NEXT[0]]) == ["b"]
    assert refer(crowd, LIMIT + 1, replicas=["c", "b", "d"], near=1) == ["c"] * LIMIT + ["b"]


def test_the_limit_is_of_those_who_are_being_sent_to_now():
    crowd = crowd_of()
    crowd.end(0.5)
    assert refer(crowd, 2) == [None, "b"]


@given(
    st.lists(st.sampled_from(["ask", "end", "wait"]), max_size=200),
    st.integers(1, 4),
    st.integers(0, 3),
    st.integers(0, 3),
)
def test_nobody_is_sent_to_a_replica_while_the_owner_has_room(events, limit, count, near):
    crowd, now = Crowd(limit), 0.0
    for event in events:
        if event == "wait":
            now += 0.3
        elif event == "end" and crowd.sending:
            crowd.end(1.0)
        elif event == "ask":
            busy = crowd.sending >= limit
            chosen = crowd.refer(NEXT[:count], near=min(near, count), now=now)
            assert chosen is None or (busy and chosen in NEXT[:count])
            if chosen is None:
                crowd.begin()


@pytest.mark.parametrize("askers", [5, 8, 12, 40, 100])
def test_a_crowd_that_comes_at_once_is_shared_as_evenly_as_can_be(askers):
    crowd = crowd_of(0)
    chosen = refer(crowd, askers)
    shares = [chosen.count(worker) for worker in (None, *NEXT)]
    assert sum(shares) == askers
    most = max(LIMIT, -(-askers // len(shares)))
    assert max(shares) <= most
