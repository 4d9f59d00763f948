"""Pools: what must happen so that they are as they shall be."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cachefs.core.names import WorkerId
from cachefs.core.pools import (
    Difference,
    Pool,
    PoolChange,
    Provided,
    changed,
    compare,
    describe,
    grown,
    shrunk,
)
from cachefs.errors import ConfigError, NotKnownError


def provided(*names, zone="", pool="default", leaving=False):
    return [Provided(WorkerId(name), pool, zone, leaving) for name in names]


def pool(wanted=None, **fields):
    return Pool(name="default", wanted=wanted, **fields)


def test_while_nobody_has_said_how_many_nothing_happens():
    assert compare(pool(), provided("a", "b")) == Difference()


def test_missing_workers_are_started():
    assert compare(pool(3), provided("a")) == Difference(("", ""), ())


def test_the_newest_leaves_first_and_ten_is_newer_than_nine():
    names = [f"worker-{number}" for number in range(1, 11)]
    assert compare(pool(8), provided(*names)).leave == ("worker-10", "worker-9")


def test_to_zero_everybody_leaves():
    assert set(compare(pool(0), provided("a", "b")).leave) == {"a", "b"}


def test_who_leaves_already_is_neither_counted_nor_sent_again():
    here = provided("a", "b") + provided("c", leaving=True)
    assert compare(pool(2), here) == Difference()
    assert compare(pool(1), here).leave == ("b",)


def test_a_worker_of_another_pool_is_nobodys_business():
    here = provided("a") + provided("x", "y", pool="other")
    assert compare(pool(1), here) == Difference()


def test_named_workers_leave_first_and_nobody_for_them():
    wanted = shrunk(pool(3), provided("a"), live=3, by="cachefs worker remove", reason="", at=1.0)
    assert wanted.wanted == 2
    assert compare(wanted, provided("a", "b", "c")) == Difference((), ("a",))
    assert compare(wanted, provided("a", leaving=True) + provided("b", "c")) == Difference()


def test_naming_the_same_worker_twice_takes_one_away():
    once = shrunk(pool(3), provided("a", "a"), live=3, by="", reason="", at=1.0)
    twice = shrunk(once, provided("a"), live=3, by="", reason="", at=2.0)
    assert (once.wanted, twice.wanted, twice.leaving) == (2, 2, ("a",))


def test_a_worker_of_another_pool_cannot_be_named():
    with pytest.raises(NotKnownError, match="not of the pool"):
        shrunk(pool(3), provided("x", pool="other"), live=3, by="", reason="", at=1.0)


def test_zones_get_what_they_shall_have_and_give_what_is_too_much():
    wanted = pool(4, wanted_by_zone={"a": 2, "b": 2})
    here = provided("w-1", "w-2", "w-3", "w-4", zone="a")
    assert compare(wanted, here) == Difference(("b", "b"), ("w-4", "w-3"))


def test_what_no_zone_asked_for_goes_where_there_are_fewest():
    wanted = pool(5, wanted_by_zone={"a": 1, "b": 1})
    assert compare(wanted, []).start == ("a", "b", "a", "b", "a")


def test_a_worker_more_in_a_zone_is_wanted_there():
    more = grown(pool(2), 1, live=2, zone="b", by="", reason="", at=1.0)
    assert (more.wanted, more.wanted_by_zone) == (3, {"b": 1})


def test_a_pool_that_nobody_sized_grows_from_what_is_live():
    assert grown(pool(), 2, live=3, zone="", by="", reason="", at=1.0).wanted == 5


def test_a_plain_number_takes_back_what_zones_should_have():
    new = changed(pool(4, wanted_by_zone={"a": 2}), PoolChange(wanted=1), at=1.0)
    assert (new.wanted, new.wanted_by_zone) == (1, {})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (PoolChange(wanted=-1), "from 0 to"),
        (PoolChange(wanted=1, wanted_by_zone={"a": 2}), "zones shall have 2"),
        (PoolChange(wanted=1, wanted_by_zone={"A?": 1}), "zone name"),
        (PoolChange(wanted=9), "out of the pool's bounds"),
        (PoolChange(wanted=0), "out of the pool's bounds"),
        (PoolChange(least=9), "that cannot be"),
        (PoolChange(exclusive="No"), "namespace name"),
    ],
)
def test_what_makes_no_sense_is_refused(change, message):
    with pytest.raises(ConfigError, match=message):
        changed(pool(2, least=1, most=4), change, at=1.0)


def test_what_stood_in_the_way_of_the_last_wish_is_not_held_against_the_next():
    assert changed(pool(9, problem="no room"), PoolChange(wanted=2), at=1.0).problem == ""


def test_a_change_says_who_and_why():
    new = changed(pool(2), PoolChange(wanted=4, by="alice", reason="the launch"), at=1.0)
    assert describe(pool(2), new) == "2 → 4 workers, by alice, because the launch"


workers = st.lists(
    st.tuples(st.sampled_from(["", "a", "b"]), st.booleans(), st.booleans()), max_size=12
)


@given(workers, st.integers(0, 12), st.dictionaries(st.sampled_from("ab"), st.integers(0, 4)))
def test_doing_what_is_said_leads_to_what_is_wanted(found, count, zones):
    total = max(count, sum(zones.values()))
    here = [
        Provided(WorkerId(f"w-{at}"), "default", zone, leaving)
        for at, (zone, leaving, _) in enumerate(found)
    ]
    named = tuple(one.worker for one, (_, _, name) in zip(here, found, strict=True) if name)
    wanted = pool(total, wanted_by_zone=zones, leaving=named)
    todo = compare(wanted, here)
    staying = [one for one in here if not one.leaving and one.worker not in todo.leave]
    staying += [
        Provided(WorkerId(f"new-{at}"), "default", zone) for at, zone in enumerate(todo.start)
    ]
    assert len(staying) == total
    assert not {one.worker for one in staying} & set(named)
    for zone, least in zones.items():
        assert sum(one.zone == zone for one in staying) >= least
    assert compare(wanted, [*staying, *(one for one in here if one.leaving)]) == Difference()
