"""Blocks: the fixed-size unit of caching, placement, transfer and eviction.

A block is named by the file version it belongs to and its index. Both never change meaning, so a
block is immutable: whoever holds it, holds the same bytes. The last block of a file is short; an
empty file has no blocks.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple, NewType

from cachefs.errors import check

FileVersionId = NewType("FileVersionId", str)
"""40 hexadecimal digits that name one immutable file; see :mod:`cachefs.core.manifest`."""


@dataclass(frozen=True, slots=True, order=True)
class BlockId:
    """The name of a block."""

    file_version: FileVersionId
    index: int


class Range(NamedTuple):
    """A run of bytes in a file."""

    offset: int
    length: int

    @property
    def end(self) -> int:
        """The offset of the first byte after the range."""
        return self.offset + self.length


def block_count(size: int, block_size: int) -> int:
    """Return how many blocks a file of ``size`` bytes has."""
    return -(-size // block_size)


def block_range(index: int, size: int, block_size: int) -> Range:
    """Return where a block lies in its file of ``size`` bytes."""
    offset = index * block_size
    check(0 <= offset < size, "block index outside of its file")
    return Range(offset, min(block_size, size - offset))


def clip(offset: int, length: int, size: int) -> Range:
    """Return the part of the asked range that lies in the file, as ``pread`` would read it."""
    check(offset >= 0, "negative offset")
    check(length >= 0, "negative length")
    start = min(offset, size)
    return Range(start, min(length, size - start))


def blocks_of(wanted: Range, block_size: int) -> Iterator[tuple[int, Range]]:
    """Yield each block that a range touches, with the touched range in file coordinates."""
    offset = wanted.offset
    while offset < wanted.end:
        index = offset // block_size
        end = min((index + 1) * block_size, wanted.end)
        yield index, Range(offset, end - offset)
        offset = end
