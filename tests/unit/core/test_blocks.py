"""Blocks and ranges: the arithmetic that every read stands on."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cachefs.core.blocks import block_count, block_range, blocks_of, clip
from cachefs.errors import InvariantError

sizes = st.integers(0, 10_000)
block_sizes = st.integers(1, 500)


@given(size=sizes, block_size=block_sizes)
def test_blocks_cover_a_file_once(size, block_size):
    ranges = [
        block_range(index, size, block_size) for index in range(block_count(size, block_size))
    ]
    assert sum(one.length for one in ranges) == size
    assert all(one.end == following.offset for one, following in pairwise(ranges))
    assert all(0 < one.length <= block_size for one in ranges)


@given(size=sizes, block_size=block_sizes, offset=sizes, length=sizes)
def test_a_range_is_cut_at_blocks_without_loss(size, block_size, offset, length):
    data = bytes(index % 251 for index in range(size))
    wanted = clip(offset, length, size)
    pieces = list(blocks_of(wanted, block_size))
    assert (
        b"".join(data[piece.offset : piece.end] for _, piece in pieces)
        == data[offset : offset + length]
    )
    for index, piece in pieces:
        block = block_range(index, size, block_size)
        assert block.offset <= piece.offset < piece.end <= block.end


def test_there_is_no_block_outside_of_a_file():
    with pytest.raises(InvariantError):
        block_range(1, 8, 8)
    with pytest.raises(InvariantError):
        block_range(-1, 8, 8)
    with pytest.raises(InvariantError):
        block_range(0, 0, 8)


def test_a_negative_range_is_a_bug():
    with pytest.raises(InvariantError):
        clip(-1, 1, 8)
    with pytest.raises(InvariantError):
        clip(0, -1, 8)
