"""Links: who shares one takes longer, and not a second more."""

from random import Random

import pytest

from cachefs.dataflow.planning.links import UnderWay


def ended(going):
    found = []
    while going:
        found.append(going.end())
    return found


def test_who_is_alone_takes_as_long_as_it_says():
    going = UnderWay()
    going.begin(0, now=1.0, seconds=5.0, link="a")
    going.begin(1, now=1.0, seconds=3.0, link="b")
    going.begin(2, now=1.0, seconds=4.0, link="")
    assert going.next_at() == 4.0
    assert ended(going) == [(4.0, 1), (5.0, 2), (6.0, 0)]
    assert going.next_at() is None


def test_two_on_a_link_are_half_as_fast_each_until_one_has_ended():
    going = UnderWay()
    going.begin(0, now=0.0, seconds=10.0, link="a")
    going.begin(1, now=4.0, seconds=2.0, link="a")  # the first has 6 left; the second ends at 8
    assert ended(going) == [(8.0, 1), (12.0, 0)]


def test_a_link_that_was_idle_begins_anew():
    going = UnderWay()
    going.begin(0, now=0.0, seconds=2.0, link="a")
    assert going.end() == (2.0, 0)
    going.begin(1, now=100.0, seconds=2.0, link="a")
    assert going.end() == (102.0, 1)


@pytest.mark.parametrize("seed", range(20))
def test_a_link_does_all_its_work_and_is_never_idle(seed):
    random = Random(seed)
    going, now, work, last = UnderWay(), 0.0, 0.0, 0.0
    for number in range(50):
        seconds = random.uniform(0.1, 5.0)
        going.begin(number, now=now, seconds=seconds, link="a")
        work += seconds
        while going and random.random() < 0.4:
            now, _ = going.end()
        if not going:
            last, work = now, 0.0
        elif going.next_at() > now:
            now = random.uniform(now, going.next_at())
    at = [moment for moment, _ in ended(going)]
    assert at == sorted(at)
    if at:
        assert at[-1] == pytest.approx(last + work)
