"""Order and scales of estimates."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from cachefs.core.hints.fleet import Fleet
from cachefs.core.hints.nodes import Node
from cachefs.core.hints.scoring import alike, hundredths, ordered, tenths

times = st.lists(
    st.floats(0, 1e4) | st.just(float("inf")) | st.sampled_from([0.0, 0.5, 1.0, 1.5]), min_size=1
)


@given(times)
def test_a_group_spans_no_more_than_a_second_and_groups_follow_the_times(
    ready: list[float],
) -> None:
    groups = alike(np.array(ready))
    for group in set(groups.tolist()):
        inside = [seconds for seconds, at in zip(ready, groups, strict=True) if at == group]
        assert max(inside) - min(inside) <= 1.0 or min(inside) == float("inf")
    in_order = [group for _, group in sorted(zip(ready, groups.tolist(), strict=True))]
    assert in_order == sorted(in_order)


@given(times)
def test_scores_fall_with_the_seconds_and_the_best_scores_the_most(ready: list[float]) -> None:
    column = np.array(ready)
    for scores, most in ((hundredths(column), 100), (tenths(column), 10)):
        assert ((scores >= 0) & (scores <= most)).all()
        by_time = scores[np.argsort(column, kind="stable")]
        assert (np.diff(by_time) <= 0).all()
        if np.isfinite(column).any():
            assert scores[np.argmin(column)] == most
        else:
            assert not scores.any()


def test_nodes_within_a_second_score_the_same() -> None:
    assert len(set(hundredths(np.array([9.0, 9.4, 10.0])).tolist())) == 1
    assert len(set(hundredths(np.array([9.0, 10.1])).tolist())) == 2


def test_steps_are_of_ratios_not_of_seconds() -> None:
    assert tenths(np.array([1.0, 3.0])).tolist() == [10, 8]
    assert tenths(np.array([300.0, 310.0])).tolist() == [10, 10]
    assert tenths(np.array([1.0, 1000.0])).tolist() == [10, 0]


def test_no_nodes_have_no_scores() -> None:
    nothing = np.empty(0)
    assert len(alike(nothing)) == len(hundredths(nothing)) == len(tenths(nothing)) == 0


def test_ties_go_to_who_breaks_up_less_then_loads_less_then_costs_less_then_by_name() -> None:
    fleet = Fleet()
    for name in ("e", "d", "c", "b", "a"):
        fleet.put(Node(name=name), now=0.0)
    rows = np.arange(5)
    ready = np.array([5.0, 5.0, 5.0, 5.0, 90.0])
    names = [fleet.names[row] for row in ordered(fleet, rows, ready)]
    assert names == ["b", "c", "d", "e", "a"]
    cost = np.array([0.0, 1.0, 1.0, 1.0, 0.0])
    assert fleet.names[ordered(fleet, rows, ready, cost=cost)[0]] == "e"
    fleet.column("streams_in")[:] = [2, 0, 1, 1, 0]
    assert fleet.names[ordered(fleet, rows, ready, cost=cost)[0]] == "d"
    fragments = np.array([3.0, 3.0, 1.0, 3.0, 0.0])
    found = ordered(fleet, rows, ready, cost=cost, fragments=fragments)
    assert [fleet.names[row] for row in found] == ["c", "d", "b", "e", "a"]
