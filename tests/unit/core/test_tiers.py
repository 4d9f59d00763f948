"""The arithmetic of a tier: no sequence of promises passes its capacity."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cachefs.core.tiers import PAGE_SIZE, Room, pages
from cachefs.errors import InvariantError


def make_room(capacity=100) -> Room:
    return Room.of(capacity, high_mark=0.9, low_mark=0.5)


def test_room_is_counted_in_whole_pages():
    assert [pages(length) for length in (0, 1, PAGE_SIZE, PAGE_SIZE + 1)] == [
        0,
        PAGE_SIZE,
        PAGE_SIZE,
        2 * PAGE_SIZE,
    ]


def test_a_promise_that_passes_the_capacity_is_refused():
    room = make_room()
    assert room.try_reserve(100)
    assert not room.try_reserve(1)


def test_bytes_in_flight_count_until_they_are_given_back():
    room = make_room()
    room.try_reserve(60)
    assert not room.try_reserve(41)
    room.give_back(60)
    assert room.try_reserve(100)


def test_a_promise_that_was_used_still_takes_room():
    room = make_room()
    room.try_reserve(60)
    room.keep(60)
    assert (room.used, room.reserved, room.taken) == (60, 0, 60)


def test_nothing_needs_to_go_up_to_the_high_mark():
    room = make_room()
    room.restore(80)
    assert room.excess(10) == 0


def test_beyond_the_high_mark_all_above_the_low_mark_goes():
    room = make_room()
    room.restore(80)
    assert room.excess(11) == 80 + 11 - 50


def test_what_is_leaving_is_not_chosen_twice():
    room = make_room()
    room.restore(90)
    room.choose(room.excess(10))
    assert room.excess(10) == 0
    assert room.taken == 90, "its pages are not free yet"


def test_what_could_not_be_freed_counts_again():
    room = make_room()
    room.restore(90)
    room.choose(40)
    room.stay(40)
    assert room.excess(10) == 50


@pytest.mark.parametrize(
    "act",
    [
        lambda room: room.give_back(1),
        lambda room: room.free(1),
        lambda room: room.choose(1),
        lambda room: room.stay(1),
    ],
)
def test_arithmetic_that_cannot_be_is_a_bug(act):
    with pytest.raises(InvariantError):
        act(make_room())


def test_marks_in_the_wrong_order_are_refused():
    with pytest.raises(InvariantError):
        Room.of(100, high_mark=0.5, low_mark=0.9)


@given(st.lists(st.tuples(st.sampled_from("rkgcf"), st.integers(1, 60)), max_size=60))
def test_no_sequence_of_reservations_passes_the_capacity(steps):
    room = make_room()
    promised: list[int] = []
    kept: list[int] = []
    for step, size in steps:
        if step == "r" and room.try_reserve(size):
            promised.append(size)
        elif step == "k" and promised:
            kept.append(promised.pop())
            room.keep(kept[-1])
        elif step == "g" and promised:
            room.give_back(promised.pop())
        elif step in "cf" and kept:
            gone = kept.pop()
            room.choose(gone)
            room.stay(gone)
            if step == "f":
                room.free(gone)
            else:
                kept.append(gone)
        assert room.taken == sum(promised) + sum(kept) <= room.capacity


def test_a_lower_limit_keeps_the_marks_shares_and_ends_with_its_cause():
    room = make_room()
    room.limit(50)
    assert (room.capacity, room.high, room.low, room.is_limited) == (50, 45, 25, True)
    room.limit(1000)
    assert (room.capacity, room.high, room.low, room.is_limited) == (100, 90, 50, False)


def test_what_is_beyond_a_lower_limit_is_kept_until_it_is_evicted():
    room = make_room()
    room.restore(80)
    room.limit(50)
    assert room.used == 80
    assert not room.try_reserve(1)
    assert room.excess(0) == 80 - 25
