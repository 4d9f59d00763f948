"""Matching: exclusive, cheap, and fair to those who were passed over."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cachefs.core.hints.demand import FADING_SECONDS, Demand
from cachefs.core.hints.matching import match, pressure

NEVER = float("inf")


def pairs(made):
    return {(each.job, each.row) for each in made if each.is_free}


def test_a_place_goes_to_the_job_that_it_is_best_for_not_to_the_first():
    ready = np.array([[12.0, NEVER], [0.0, NEVER]])

    assert pairs(match(ready, np.array([0.0, NEVER]))) == {(1, 0)}


def test_who_was_passed_over_too_often_chooses_first():
    ready = np.array([[12.0, NEVER], [0.0, NEVER]])

    assert pairs(match(ready, np.array([0.0, NEVER]), urgent=[0])) == {(0, 0)}


def test_who_chooses_first_gets_nothing_that_is_not_free():
    ready, slot = np.array([[3.0, NEVER], [NEVER, 1.0]]), np.array([2.0, 0.0])

    assert pairs(match(ready, slot, urgent=[0])) == {(1, 1)}


def test_a_job_declines_a_free_place_only_for_one_that_is_clearly_sooner():
    slot = np.array([0.0, 5.0])

    waits = match(np.array([[10.0, 7.9]]), slot)
    goes = match(np.array([[10.0, 8.1]]), slot)

    assert [(each.row, each.is_free, each.declines) for each in waits] == [(1, False, True)]
    assert [(each.row, each.is_free, each.declines) for each in goes] == [(0, True, False)]


def test_a_job_that_has_waited_enough_takes_what_is_free():
    made = match(np.array([[10.0, 2.0]]), np.array([0.0, 2.0]), patient=[])

    assert pairs(made) == {(0, 0)}


def test_what_a_place_costs_others_counts():
    ready, slot = np.array([[5.0, 6.0]]), np.zeros(2)

    assert pairs(match(ready, slot)) == {(0, 0)}
    assert pairs(match(ready, slot, extra=np.array([[2.0, 0.0]]))) == {(0, 1)}


def test_with_many_in_line_a_place_that_stands_still_is_dear():
    # The first is ready sooner at the free place than at the other, which would stand still for less.
    ready, slot = np.array([[9.0, 10.0], [NEVER, NEVER]]), np.array([0.0, 9.0])

    assert pairs(match(ready, slot, behind=pressure(slot, 1))) == {(0, 0)}
    assert pairs(match(ready, slot, behind=pressure(slot, 60))) == set()


def test_nobody_is_matched_where_nothing_is_free_or_nobody_waits():
    assert match(np.array([[3.0, 4.0]]), np.array([3.0, 4.0])) == []
    assert match(np.empty((0, 2)), np.zeros(2)) == []


@given(st.integers(1, 6), st.integers(1, 6), st.integers(0, 2**32 - 1))
def test_no_place_and_no_job_is_matched_twice_and_no_free_place_is_left_to_those_without(
    jobs, rows, seed
):
    drawn = np.random.default_rng(seed)
    slot = np.where(drawn.random(rows) < 0.5, 0.0, drawn.uniform(1, 30, rows))
    ready = slot + drawn.uniform(0, 30, (jobs, rows))
    ready[drawn.random((jobs, rows)) < 0.2] = NEVER
    urgent = np.flatnonzero(drawn.random(jobs) < 0.3).tolist()

    made = match(ready, slot, behind=pressure(slot, jobs), urgent=urgent)

    assert len({each.job for each in made}) == len({each.row for each in made}) == len(made)
    assert all(ready[each.job, each.row] < NEVER for each in made)
    assert all(each.is_free == (slot[each.row] <= 0) for each in made)
    taken = {each.row for each in made}
    spare = [row for row in range(rows) if slot[row] <= 0 and row not in taken]
    for job in set(range(jobs)) - {each.job for each in made}:
        assert all(ready[job, row] == NEVER for row in spare)


def test_demand_is_likelier_for_what_is_asked_for_often_and_for_the_first_copy():
    demand = Demand()
    for at in range(40):
        demand.asked("often", now=at * 10.0)
    demand.asked("once", now=390.0)

    chances = [demand.chance("often", copies=copies, now=400.0) for copies in range(4)]

    assert chances == sorted(chances, reverse=True)
    assert 0 < demand.chance("once", copies=0, now=400.0) < chances[0] < 1
    assert demand.chance("never", copies=0, now=400.0) == 0


def test_demand_fades():
    demand = Demand()
    demand.asked("a", now=0.0)

    late = demand.chance("a", copies=0, now=FADING_SECONDS)

    assert late == pytest.approx(demand.chance("a", copies=0, now=0.0) / np.e, rel=0.02)
