"""Which block goes when a tier needs room: each policy on small tables."""

from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cachefs.core.blocks import BlockId, FileVersionId
from cachefs.core.eviction import (
    SAMPLE_SIZE,
    FrequencySketch,
    LeastRecentlyUsed,
    Retention,
    SizeAware,
    TinyLfu,
    open_policy,
)
from cachefs.errors import ConfigError

MIB = 1024 * 1024


def block(index: int, file: str = "f") -> BlockId:
    return BlockId(FileVersionId(file), index)


def order(policy) -> list[int]:
    return [victim.index for victim in policy.victims()]


def test_lru_evicts_the_block_unread_for_the_longest_time():
    policy = LeastRecentlyUsed()
    for index in range(4):
        policy.add(block(index), MIB)
    policy.touch(block(0))
    assert order(policy) == [1, 2, 3, 0]


def test_lru_counts_a_block_that_came_again_as_new():
    policy = LeastRecentlyUsed()
    for index in (0, 1, 0):
        policy.add(block(index), MIB)
    assert order(policy) == [1, 0]


def test_tinylfu_keeps_what_is_read_often_through_one_pass_over_a_big_dataset():
    policy = TinyLfu()
    for index in range(8):
        policy.add(block(index, "hot"), MIB)
    for _ in range(5):
        for index in range(8):
            policy.touch(block(index, "hot"))
    evicted: list[BlockId] = []
    for index in range(400):
        policy.add(block(index, "pass"), MIB)
        if index >= SAMPLE_SIZE:
            victim = next(iter(policy.victims()))
            evicted.append(victim)
            policy.remove(victim, evicted=True)
    assert {victim.file_version for victim in evicted} == {"pass"}


def test_lru_does_not_which_is_why_there_is_tinylfu():
    policy = LeastRecentlyUsed()
    policy.add(block(0, "hot"), MIB)
    policy.add(block(0, "pass"), MIB)
    assert next(iter(policy.victims())).file_version == "hot"


def test_tinylfu_proposes_every_block_once():
    policy = TinyLfu()
    for index in range(3 * SAMPLE_SIZE):
        policy.add(block(index), MIB)
    assert sorted(order(policy)) == list(range(3 * SAMPLE_SIZE))


def test_old_fame_fades():
    sketch = FrequencySketch(width=64)
    for _ in range(15):
        sketch.note(block(1))
    famous = sketch.estimate(block(1))
    for index in range(2000):
        sketch.note(block(index % 3 + 2))
    assert famous == 15
    assert sketch.estimate(block(1)) < 5


@given(st.lists(st.integers(0, 50), max_size=150))
def test_a_sketch_never_estimates_too_low(seen):
    sketch = FrequencySketch(width=1024)
    for index in seen:
        sketch.note(block(index))
    for index in set(seen):
        assert sketch.estimate(block(index)) >= min(seen.count(index), FrequencySketch.COUNT_MAX)


def test_a_sketch_is_the_same_in_every_process():
    sketch = FrequencySketch(width=4096)
    assert sketch._places(block(7, "0123")) == sketch._places(block(7, "0123"))
    assert sketch._places(block(7, "0123")) != sketch._places(block(8, "0123"))


def test_size_aware_evicts_the_big_before_the_small():
    policy = SizeAware()
    policy.add(block(0), 4096)
    policy.add(block(1), 8 * MIB)
    policy.add(block(2), MIB)
    assert order(policy) == [1, 2, 0]


def test_size_aware_keeps_a_big_block_that_is_read_often():
    policy = SizeAware()
    policy.add(block(0), 8 * MIB)
    policy.add(block(1), MIB)
    for _ in range(3):
        policy.touch(block(0))
    assert order(policy) == [1, 0]


def test_size_aware_lets_small_blocks_go_that_nobody_reads_any_more():
    policy = SizeAware()
    policy.add(block(0), MIB // 64)
    for index in range(1, 200):
        policy.add(block(index), 8 * MIB)
        victim = next(iter(policy.victims()))
        policy.remove(victim, evicted=True)
        if victim == block(0):
            return
    pytest.fail("an unread small block stayed for ever")


def test_looking_at_victims_changes_nothing():
    policy = SizeAware()
    for index in range(5):
        policy.add(block(index), MIB)
    list(islice(policy.victims(), 3))
    assert order(policy) == [0, 1, 2, 3, 4]


def test_size_aware_does_not_grow_with_reads():
    policy = SizeAware()
    policy.add(block(0), MIB)
    for _ in range(10_000):
        policy.touch(block(0))
    assert len(policy._heap) < 100


@pytest.mark.parametrize("name", ["lru", "tinylfu", "size"])
@given(
    steps=st.lists(
        st.tuples(st.sampled_from(["add", "touch", "remove", "evict"]), st.integers(0, 9)),
        max_size=60,
    )
)
def test_victims_are_exactly_the_resident_blocks(name, steps):
    policy = open_policy(name)
    resident: set[int] = set()
    for step, index in steps:
        if step == "add":
            policy.add(block(index), MIB * (index + 1))
            resident.add(index)
        elif step == "touch":
            policy.touch(block(index))
        else:
            policy.remove(block(index), evicted=step == "evict")
            resident.discard(index)
        assert sorted(order(policy)) == sorted(resident)


def test_an_unknown_policy_names_the_known_ones():
    with pytest.raises(ConfigError, match="lru, tinylfu, size"):
        open_policy("random")


def test_a_block_expires_when_it_was_unread_for_its_time_to_live():
    file = FileVersionId("f")
    retention = Retention(frozenset(), {file: 10.0})
    assert not retention.is_expired(file, read_at=5.0, now=14.9)
    assert retention.is_expired(file, read_at=5.0, now=15.0)
    assert not retention.is_expired(FileVersionId("other"), read_at=0.0, now=1e9)


def test_a_pin_is_stronger_than_a_time_to_live():
    file = FileVersionId("f")
    retention = Retention(frozenset([file]), {file: 10.0})
    assert not retention.may_evict(file)
    assert not retention.is_expired(file, read_at=0.0, now=1e9)
