"""Plans: from the tensors that are wanted to the ranges of a file that must be read.

A tensor is wanted whole, or as a *slice*: a range along some of its dimensions, as a rank of a
tensor-parallel model needs it. Elements lie row by row, so a slice along the first dimension is one
run of bytes, and one along a later dimension as many runs as there are rows above it. Runs far
apart are read one by one, each to where it belongs in the result; runs with gaps below
``GAP_BYTES`` are read with the gaps, because a further request costs more than the bytes between,
and the slice is cut out in memory.

Whatever is neighbouring in the file becomes one read, whatever tensors it belongs to. The tensors of
a file are laid out in **batches**, each of which has one buffer: one batch for all of them, or as
many as a memory budget asks for. In the buffer a tensor begins where its dtype wants it to.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import NamedTuple

from cachefs.core.blocks import Range
from cachefs.core.names import printable
from cachefs.errors import ConfigError
from cachefs.sdk.safetensors.header import DTYPE_BITS, TensorEntry

GAP_BYTES = 64 * 1024
"""Between runs of one slice. Reading 64 KiB from the page cache takes some microseconds, as a further
request does."""
NEIGHBOUR_GAP_BYTES = 4096
"""Between two tensors: what is left out between them, a page at most, is read with them."""
ALIGNMENT_BYTES = 64
"""Where a run of tensors begins in a buffer: a processor's cache line, which frameworks like."""

Slices = slice | tuple[slice, ...] | None
"""What is wanted of a tensor: all of it, a range of its first dimension, or ranges of the first few.
Bounds as in Python; steps are 1."""


class Read(NamedTuple):
    """A range of the file, and where it goes."""

    offset: int
    """In the file, in bytes."""
    length: int
    position: int
    """In the batch's buffer, in bytes."""


class Placed(NamedTuple):
    """A wanted tensor in a batch's buffer."""

    entry: TensorEntry
    position: int
    """Of its first byte in the buffer."""
    size: int
    """Bytes that it takes there."""
    shape: tuple[int, ...]
    """Of what is there."""
    cut: tuple[slice, ...] | None
    """What to cut out of that; ``None`` if it is exactly what is wanted."""


@dataclass(slots=True)
class Batch:
    """Tensors that share a buffer."""

    reads: list[Read] = field(default_factory=list)
    """Sorted by position, which is the order of the file as well."""
    tensors: list[Placed] = field(default_factory=list)
    size: int = 0
    """Of the buffer, in bytes."""


class Wanted(NamedTuple):
    """A tensor, or a slice of it, in bytes of the file."""

    entry: TensorEntry
    runs: tuple[Range, ...]
    """Read one after the other they are the tensor, or contain it."""
    shape: tuple[int, ...]
    cut: tuple[slice, ...] | None

    @property
    def size(self) -> int:
        """Bytes to be read."""
        return sum(run.length for run in self.runs)


def rank_slices(
    shape: Sequence[int], *, rank: int, ranks: int, dimension: int = 0
) -> tuple[slice, ...]:
    """Return the share of one rank of a tensor that is split evenly along a dimension.

    Args:
        shape: The whole tensor's.
        rank: From 0.
        ranks: How many share the tensor.
        dimension: Along which it is split.

    Raises:
        ConfigError: The dimension does not divide evenly.

    Example:
        >>> rank_slices((8, 6), rank=1, ranks=2, dimension=1)
        (slice(0, 8, None), slice(3, 6, None))
    """
    if not 0 <= rank < ranks or not 0 <= dimension < len(shape):
        raise ConfigError(f"no rank {rank} of {ranks}, or no dimension {dimension} of {len(shape)}")
    share, rest = divmod(shape[dimension], ranks)
    if rest:
        raise ConfigError(f"{shape[dimension]} does not divide into {ranks} equal shares")
    before = tuple(slice(0, size) for size in shape[:dimension])
    return (*before, slice(rank * share, (rank + 1) * share))


def want(entry: TensorEntry, slices: Slices = None) -> Wanted:
    """Return what must be read for a tensor or a slice of it.

    Raises:
        ConfigError: The slice does not fit the tensor.
    """
    bounds = bounds_of(entry, slices)
    shape = tuple(stop - start for start, stop in bounds)
    if 0 in shape or shape == entry.shape:
        size = 0 if 0 in shape else entry.size
        return Wanted(entry, (Range(entry.offset, size),), shape, None)
    # The last dimension that is cut decides: below it, elements are neighbours.
    last = max(at for at, size in enumerate(entry.shape) if shape[at] != size)
    inner_bits = math.prod(entry.shape[last + 1 :]) * DTYPE_BITS[entry.dtype]
    start, stop = bounds[last]
    if (start * inner_bits) % 8 or (stop * inner_bits) % 8:
        raise _unfit(entry, "it cuts through a byte")
    length = (stop - start) * inner_bits // 8
    rows = math.prod(entry.shape[:last])
    if entry.size % rows:
        raise _unfit(entry, "its rows do not end at the end of a byte")
    stride = entry.size // rows
    outer = bounds[:last]
    count = math.prod(high - low for low, high in outer)
    if count == 1 or stride - length > GAP_BYTES:
        first = start * inner_bits // 8
        runs = (
            Range(entry.offset + row * stride + first, length)
            for row in _rows(outer, entry.shape[:last])
        )
        return Wanted(entry, tuple(_joined(runs)), shape, None)
    return _spanning(entry, bounds, shape)


def bounds_of(entry: TensorEntry, slices: Slices) -> list[tuple[int, int]]:
    """Return begin and end along every dimension.

    Raises:
        ConfigError: There are more slices than dimensions, or a step is not 1.
    """
    given = () if slices is None else slices if isinstance(slices, tuple) else (slices,)
    if len(given) > len(entry.shape):
        raise _unfit(entry, f"it has {len(given)} slices for {len(entry.shape)} dimensions")
    bounds = []
    for at, size in enumerate(entry.shape):
        start, stop, step = given[at].indices(size) if at < len(given) else (0, size, 1)
        if step != 1:
            raise _unfit(entry, "its step is not 1")
        bounds.append((start, max(start, stop)))
    return bounds


def make_batches(wanted: Iterable[Wanted], *, limit_bytes: int | None) -> list[Batch]:
    """Lay out tensors in batches, in the order of the file.

    Args:
        wanted: Of one file.
        limit_bytes: A batch is no larger, unless a single tensor is; ``None`` for one batch.
    """
    batches: list[Batch] = []
    for each in sorted(wanted, key=lambda one: (one.runs[0].offset, one.entry.size)):
        placed = _place(batches[-1], each) if batches else None
        beyond = limit_bytes is not None and placed is not None and placed[1] > limit_bytes
        if not batches or beyond:
            batches.append(Batch())
            placed = None
        batch = batches[-1]
        position, end = placed or _place(batch, each)
        _add_reads(batch, each, position)
        batch.tensors.append(Placed(each.entry, position, each.size, _stored_shape(each), each.cut))
        batch.size = end
    return batches


def pieces(batch: Batch, length: int) -> Iterator[Read]:
    """Cut a batch's reads at the multiples of ``length`` in the file."""
    for read in batch.reads:
        offset, end = read.offset, read.offset + read.length
        while offset < end:
            until = min(end, (offset // length + 1) * length)
            yield Read(offset, until - offset, read.position + offset - read.offset)
            offset = until


def select(
    tensors: Mapping[str, TensorEntry], plan: Mapping[str, Slices] | Iterable[str] | None
) -> list[Wanted]:
    """Return what is wanted of a file's tensors: those that a plan names, all of them for ``None``."""
    if plan is None:
        return [want(entry) for entry in tensors.values()]
    slices = plan if isinstance(plan, Mapping) else dict.fromkeys(plan)
    return [want(tensors[name], cut) for name, cut in slices.items() if name in tensors]


def _rows(outer: Sequence[tuple[int, int]], shape: Sequence[int]) -> Iterator[int]:
    """Yield the numbers of the rows that are wanted, counted over the outer dimensions."""
    for at in product(*(range(low, high) for low, high in outer)):
        row = 0
        for index, size in zip(at, shape, strict=True):
            row = row * size + index
        yield row


def _joined(runs: Iterable[Range]) -> Iterator[Range]:
    """Join runs that touch."""
    before: Range | None = None
    for run in runs:
        if before is not None and before.end == run.offset:
            before = Range(before.offset, before.length + run.length)
            continue
        if before is not None:
            yield before
        before = run
    if before is not None:
        yield before


def _spanning(
    entry: TensorEntry, bounds: Sequence[tuple[int, int]], shape: tuple[int, ...]
) -> Wanted:
    """Return the shortest run of whole rows that contains a slice."""
    # Dimensions of which one element is wanted narrow the span; the first with more ends that.
    depth = next(at for at, size in enumerate(shape) if size > 1)
    offset, row_bytes = entry.offset, entry.size
    for at in range(depth):
        row_bytes //= entry.shape[at]
        offset += bounds[at][0] * row_bytes
    row_bytes //= entry.shape[depth]
    start, stop = bounds[depth]
    run = Range(offset + start * row_bytes, (stop - start) * row_bytes)
    ones = (slice(0, 1),) * depth
    rest = tuple(slice(low, high) for low, high in bounds[depth + 1 :])
    index = (*ones, slice(0, stop - start), *rest)
    return Wanted(entry, (run,), shape, index)


def _stored_shape(wanted: Wanted) -> tuple[int, ...]:
    """Return the shape of what is read, of which the index cuts out what is wanted."""
    if wanted.cut is None:
        return wanted.shape
    depth = next(at for at, size in enumerate(wanted.shape) if size > 1)
    return (*wanted.shape[: depth + 1], *wanted.entry.shape[depth + 1 :])


def _place(batch: Batch, wanted: Wanted) -> tuple[int, int]:
    """Return where a tensor would begin in a batch, and where the batch would end then."""
    joined = _joined_position(batch, wanted)
    position = -(-batch.size // ALIGNMENT_BYTES) * ALIGNMENT_BYTES if joined is None else joined
    return position, position + wanted.size


def _joined_position(batch: Batch, wanted: Wanted) -> int | None:
    """Return where a tensor begins if it is read in one go with the one before it."""
    if not batch.reads:
        return None
    last = batch.reads[-1]
    gap = wanted.runs[0].offset - (last.offset + last.length)
    position = last.position + last.length + gap
    item_bytes = max(1, DTYPE_BITS[wanted.entry.dtype] // 8)
    if 0 <= gap <= NEIGHBOUR_GAP_BYTES and position % item_bytes == 0:
        return position
    return None


def _add_reads(batch: Batch, wanted: Wanted, position: int) -> None:
    for run in wanted.runs:
        if not run.length:
            continue
        if batch.reads:
            last = batch.reads[-1]
            if (
                run.offset - last.offset
                == position - last.position
                <= last.length + NEIGHBOUR_GAP_BYTES
            ):
                batch.reads[-1] = last._replace(length=run.end - last.offset)
                position += run.length
                continue
        batch.reads.append(Read(run.offset, run.length, position))
        position += run.length


def _unfit(entry: TensorEntry, reason: str) -> ConfigError:
    return ConfigError(f"the slice does not fit: {reason}", subject=printable(entry.name))
