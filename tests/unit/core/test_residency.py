"""Residency: masks, the index, and its summary."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cachefs.core.blocks import FileVersionId, block_count, block_range
from cachefs.core.names import WorkerId
from cachefs.core.residency import (
    Holding,
    ResidencyIndex,
    decode_mask,
    encode_mask,
    full_mask,
    indexes,
    mask_bytes,
    summarise,
)
from cachefs.errors import ConfigError

ONE, TWO = WorkerId("one"), WorkerId("two")
FILE, OTHER = FileVersionId("f" * 40), FileVersionId("0" * 40)


@given(st.sets(st.integers(0, 70)))
def test_a_mask_survives_the_wire(blocks: set[int]) -> None:
    mask = sum(1 << index for index in blocks)
    assert decode_mask(encode_mask(mask), 71) == mask
    assert set(indexes(mask)) == blocks
    assert list(indexes(mask)) == sorted(blocks)


def test_the_lowest_bit_of_the_first_byte_is_block_0() -> None:
    assert encode_mask(0b1) == b"\x01"
    assert encode_mask(1 << 8) == b"\x00\x01"
    assert encode_mask(0) == b""


def test_a_mask_beyond_the_file_is_refused() -> None:
    assert decode_mask(b"\x07", 3) == 7
    with pytest.raises(ConfigError):
        decode_mask(b"\x08", 3)
    with pytest.raises(ConfigError):
        decode_mask(b"\x01", 0)


@given(st.integers(0, 1000), st.integers(1, 200))
def test_the_bytes_of_a_mask_are_those_of_its_blocks(size: int, block_size: int) -> None:
    blocks = block_count(size, block_size)
    for mask in (0, full_mask(blocks), full_mask(blocks) & 0b1010101):
        expected = sum(block_range(index, size, block_size).length for index in indexes(mask))
        assert mask_bytes(mask, size, block_size) == expected


def test_a_worker_holds_nothing_until_it_has_reported_everything() -> None:
    index = ResidencyIndex()
    index.put(Holding(ONE, FILE, "disk", 0b11))
    assert index.resident(ONE, FILE) == 0
    assert list(index.holders(FILE, [ONE])) == []
    index.set_known(ONE, known=True)
    assert index.resident(ONE, FILE) == 0b11


def test_tiers_are_kept_apart_and_add_up() -> None:
    index = ResidencyIndex()
    index.set_known(ONE, known=True)
    index.put(Holding(ONE, FILE, "disk", 0b011))
    index.put(Holding(ONE, FILE, "memory", 0b110))
    assert index.resident(ONE, FILE) == 0b111
    index.put(Holding(ONE, FILE, "disk", 0))
    assert index.resident(ONE, FILE) == 0b110
    assert list(index.holders(FILE, [ONE, TWO])) == [Holding(ONE, FILE, "memory", 0b110)]


def test_the_revision_grows_with_changes_alone() -> None:
    index = ResidencyIndex()
    index.put(Holding(ONE, FILE, "disk", 1))
    before = index.revision
    index.put(Holding(ONE, FILE, "disk", 1))
    index.put(Holding(ONE, OTHER, "disk", 0))
    index.set_known(ONE, known=False)
    assert index.revision == before
    index.set_known(ONE, known=True)
    assert index.revision > before


def test_what_has_changed_since_a_revision_is_known() -> None:
    index = ResidencyIndex()
    index.put(Holding(ONE, FILE, "disk", 1))
    before = index.revision
    assert index.changed_since(before) == frozenset()
    index.put(Holding(TWO, OTHER, "disk", 1))
    index.set_known(TWO, known=True)
    index.put(Holding(TWO, OTHER, "disk", 0b11))
    assert index.changed_since(before) == {OTHER}
    assert index.changed_since(0) == {FILE, OTHER}
    assert index.changed_since(index.revision + 1) is None


def test_changes_that_are_too_many_are_not_told_one_by_one(monkeypatch) -> None:
    monkeypatch.setattr("cachefs.core.residency.CHANGES_KEPT", 2)
    index = ResidencyIndex()
    for mask in (1, 2, 3):
        index.put(Holding(ONE, FILE, "disk", mask))
    assert index.changed_since(0) is None
    assert index.changed_since(1) == {FILE}


@given(
    st.lists(
        st.tuples(
            st.sampled_from([ONE, TWO]),
            st.sampled_from([FILE, OTHER]),
            st.sampled_from(["memory", "disk"]),
            st.integers(0, 3),
        )
    )
)
def test_who_holds_a_file_version_is_what_all_workers_records_say(changes) -> None:
    index = ResidencyIndex()
    for change in changes:
        index.put(Holding(*change))
    recorded = {each for worker in (ONE, TWO) for each in index.recorded(worker)}
    found = [each for name in (FILE, OTHER) for each in index.recorded_of(name)]
    assert set(found) == recorded
    assert len(found) == len(recorded)


def test_a_summary_counts_blocks_once_and_copies_by_tier() -> None:
    index = ResidencyIndex()
    for worker in (ONE, TWO):
        index.set_known(worker, known=True)
    index.put(Holding(ONE, FILE, "disk", 0b101))
    index.put(Holding(TWO, FILE, "disk", 0b100))
    summary = summarise({FILE: 250, OTHER: 0}, index, [ONE, TWO], block_size=100)
    assert (summary.blocks_total, summary.bytes_total) == (3, 250)
    assert (summary.blocks_resident, summary.bytes_resident) == (2, 150)
    assert [tuple(share) for share in summary.shares] == [
        (ONE, "disk", 2, 150),
        (TWO, "disk", 1, 50),
    ]
    assert summary.ratio == pytest.approx(0.6)


def test_a_version_without_bytes_is_wholly_resident() -> None:
    assert summarise({OTHER: 0}, ResidencyIndex(), [], block_size=100).ratio == 1.0
