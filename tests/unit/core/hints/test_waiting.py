"""When a place that is not free yet is worth waiting for."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from cachefs.core.hints.nodes import NEVER
from cachefs.core.hints.waiting import PATIENCE, WAITS_MAX, is_worth_waiting, offer

ALL = np.arange(3)


def _offer(ready, slot, rows=ALL, waits=0):
    return offer(np.array(ready), np.array(slot), np.array(rows), waits=waits)


def test_what_is_clearly_quicker_is_worth_waiting_for():
    found = _offer([60.0, 10.0, 12.0], [0.0, 4.0, 2.0])
    assert (found.row, found.free_seconds, found.ready_seconds) == (1, 4.0, 10.0)
    assert found.instead_seconds == 60.0


def test_what_is_only_a_little_quicker_is_not():
    assert _offer([10.0, 8.0, 8.5], [0.0, 2.0, 2.0]) is None
    assert _offer([10.0, 7.9, 8.5], [0.0, 2.0, 2.0]).row == 1


def test_when_nothing_is_free_there_is_nothing_to_decline():
    found = _offer([NEVER, 30.0, 20.0], [NEVER, 5.0, 10.0], waits=WAITS_MAX + 1)
    assert (found.row, found.instead_seconds) == (2, NEVER)


def test_a_job_declines_what_is_free_a_few_times_only():
    ready, slot = [60.0, 10.0, 12.0], [0.0, 4.0, 2.0]
    assert _offer(ready, slot, waits=WAITS_MAX - 1) is not None
    assert _offer(ready, slot, waits=WAITS_MAX) is None


def test_only_nodes_that_may_be_chosen_count():
    assert _offer([60.0, 10.0, 50.0], [0.0, 4.0, 2.0], rows=[0, 2]) is None
    assert _offer([1.0, 10.0, 50.0], [0.0, 4.0, 0.0], rows=[1, 2]).row == 1


def test_nothing_is_offered_where_nothing_is_or_ever_becomes_free():
    assert _offer([NEVER, NEVER, NEVER], [NEVER, NEVER, NEVER]) is None
    assert offer(np.empty(0), np.empty(0), np.empty(0, dtype=np.intp)) is None


@given(
    st.lists(st.tuples(st.floats(0, 1e4), st.sampled_from([0.0, 1.0, 50.0, NEVER])), min_size=1),
    st.integers(0, WAITS_MAX + 1),
)
def test_every_wait_is_bounded_by_what_the_best_free_place_takes(nodes, waits):
    slot = [each[1] for each in nodes]
    ready = [each[0] + each[1] for each in nodes]
    free = [each for each, wait in zip(ready, slot, strict=True) if wait == 0]
    found = _offer(ready, slot, rows=range(len(nodes)), waits=waits)
    if found is None:
        return
    assert slot[found.row] > 0
    assert found.ready_seconds == ready[found.row] < NEVER
    if free:
        assert waits < WAITS_MAX
        assert found.ready_seconds < PATIENCE * min(free)
        assert is_worth_waiting(found.ready_seconds, instead=min(free))
