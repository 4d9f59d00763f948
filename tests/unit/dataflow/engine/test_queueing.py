"""Shares: how many places a namespace gets."""

import pytest

from cachefs.core.tenants import EVERYBODY, Tenants
from cachefs.dataflow.engine.queueing import Shares, turns

STRICT = Tenants(trusted=("ops",))


def test_alone_an_untrusted_namespace_gets_half_and_a_trusted_one_all():
    assert Shares(64, STRICT, {}).free("team-b") == 32
    assert Shares(64, STRICT, {}).free("ops") == 64
    assert Shares(64, EVERYBODY, {}).free("team-b") == 64


@pytest.mark.parametrize("limit", [1, 2, 7, 64])
def test_at_once_is_as_many_as_one_after_another(limit):
    shares, one_by_one = Shares(limit, STRICT, {}), 0
    while shares.free("team-b"):
        shares.take("team-b")
        one_by_one += 1
    assert Shares(limit, STRICT, {}).free("team-b") == one_by_one == -(-limit // 2)


def test_whoever_has_no_place_finds_one_while_several_take_all_that_they_may():
    shares = Shares(64, STRICT, {})
    for greedy in range(5):
        shares.take(f"team-{greedy}", shares.free(f"team-{greedy}"))
    assert shares.free("team-0") == 0
    assert shares.free("late") == 1


def test_more_places_taken_than_there_are_leave_none():
    assert Shares(2, EVERYBODY, {"team": 5}).free("team") == 0
    assert Shares(2, STRICT, {"team": 5}).free("other") == 0


def test_namespaces_take_turns_each_in_the_order_of_its_queue():
    waiting = [*((f"a{n}", "a") for n in range(6)), ("b0", "b"), ("b1", "b"), ("c0", "c")]
    assert turns(waiting, Shares(5, EVERYBODY, {}), {}) == ["a0", "b0", "c0", "a1", "b1"]
    assert turns(waiting, Shares(5, EVERYBODY, {"b": 2}), {}) == ["a0", "c0", "a1"]


def test_one_namespace_alone_goes_on_in_the_order_of_the_queue():
    waiting = [(f"a{n}", "a") for n in range(4)]
    assert turns(waiting, Shares(3, EVERYBODY, {}), {}) == ["a0", "a1", "a2"]


def test_of_namespaces_that_have_as_many_the_one_that_waited_longer_is_first():
    waiting = [("a0", "a"), ("a1", "a"), ("b0", "b")]
    assert turns(waiting, Shares(1, EVERYBODY, {}), {"a": 5.0, "b": 4.0}) == ["b0"]
    assert turns(waiting, Shares(1, EVERYBODY, {}), {"a": 5.0}) == ["b0"]
