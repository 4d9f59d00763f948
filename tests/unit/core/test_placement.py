"""Placement: in proportion, minimal movement, spread over zones."""

from collections import Counter
from dataclasses import replace

import pytest

from cachefs.core.blocks import BlockId, FileVersionId
from cachefs.core.membership import Member
from cachefs.core.names import WorkerId
from cachefs.core.placement import order, owners

BLOCKS = [BlockId(FileVersionId("ab" * 20), index) for index in range(4000)]


def member(worker: str, *, weight: float = 1.0, zone: str = "", pool: str = "default") -> Member:
    return Member(
        worker=WorkerId(worker),
        incarnation="1",
        node="n",
        zone=zone,
        pool=pool,
        weight=weight,
        data_address="",
        control_address="",
        socket_path="",
    )


def first_owners(members: list[Member]) -> list[str]:
    return [order(block, members, pool="default")[0].worker for block in BLOCKS]


def test_blocks_are_shared_in_proportion_to_weight():
    counts = Counter(first_owners([member("a"), member("b"), member("c", weight=2.0)]))
    for worker, share in (("a", 0.25), ("b", 0.25), ("c", 0.5)):
        assert counts[worker] / len(BLOCKS) == pytest.approx(share, abs=0.03)


def test_a_join_moves_only_what_the_new_worker_gains():
    members = [member(name) for name in "abc"]
    before, after = first_owners(members), first_owners([*members, member("d")])
    moved = [new for old, new in zip(before, after, strict=True) if old != new]
    assert set(moved) == {"d"}
    assert len(moved) / len(BLOCKS) == pytest.approx(0.25, abs=0.03)


def test_a_leave_moves_only_what_the_leaver_had():
    members = [member(name) for name in "abcd"]
    before, after = first_owners(members), first_owners(members[:-1])
    assert {old for old, new in zip(before, after, strict=True) if old != new} == {"d"}


def test_the_order_does_not_depend_on_the_order_of_the_members():
    members = [member(name) for name in "abcd"]
    for block in BLOCKS[:50]:
        assert order(block, members, pool="default") == order(block, members[::-1], pool="default")


def test_who_drains_has_no_weight_or_is_of_another_pool_owns_nothing():
    members = [
        member("a"),
        replace(member("b"), draining=True),
        member("c", weight=0),
        member("d", pool="x"),
    ]
    assert [one.worker for one in order(BLOCKS[0], members, pool="default")] == ["a"]
    assert order(BLOCKS[0], [], pool="default") == []


def test_replicas_are_spread_over_zones_without_moving_the_first_owner():
    members = [member(f"{zone}{number}", zone=zone) for zone in "xyz" for number in range(3)]
    flat = [replace(one, zone="") for one in members]
    for block in BLOCKS[:200]:
        held = owners(block, members, pool="default", replicas=3)
        assert {one.zone for one in held} == {"x", "y", "z"}
        assert held[0].worker == order(block, flat, pool="default")[0].worker
        assert sorted(one.worker for one in order(block, members, pool="default")) == sorted(
            one.worker for one in members
        )
