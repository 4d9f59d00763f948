"""Which block goes when a tier needs room.

A policy keeps an order of the resident blocks and proposes *victims*, the best first. It knows
nothing of pins, leases or blocks being sent: whoever asks skips those that may not go. Time and
sizes are given in, ties are broken by age, and so the same calls give the same victims.

Three policies:

- ``lru``: the block unread for the longest time goes first. Right for most.
- ``tinylfu``: among the oldest, the one that was read least often. One pass over a big dataset then
  does not push out what is read every hour. How often is estimated by a small sketch that is halved
  again and again, so that old fame fades.
- ``size``: what frees most room for the least cost of bringing it back. A request costs an origin
  about as much as moving a megabyte, so small files are worth more per byte and stay longer.

:class:`Retention` is the part that people decide: pins, and times to live.
"""

import heapq
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import count, islice
from typing import Protocol
from zlib import crc32

from cachefs.core.blocks import BlockId, FileVersionId
from cachefs.errors import ConfigError

REQUEST_COST_BYTES = 1024 * 1024
"""What a request to an origin costs, in bytes it could have moved: 20 ms at 50 MB/s."""

SAMPLE_SIZE = 32
"""How many of the oldest blocks ``tinylfu`` compares."""


class EvictionPolicy(Protocol):
    """An order of blocks by how little they would be missed."""

    def add(self, block: BlockId, size: int) -> None:
        """Note a block that became resident."""
        ...

    def touch(self, block: BlockId) -> None:
        """Note a read of a block; one that is not resident is ignored."""
        ...

    def remove(self, block: BlockId, *, evicted: bool = False) -> None:
        """Forget a block; one that is not resident is ignored."""
        ...

    def victims(self) -> Iterator[BlockId]:
        """Yield blocks, the best victim first. Nothing may be changed while this is iterated."""
        ...


class LeastRecentlyUsed:
    """The block unread for the longest time goes first."""

    def __init__(self) -> None:
        """Begin empty."""
        self._order: OrderedDict[BlockId, None] = OrderedDict()

    def add(self, block: BlockId, size: int) -> None:  # noqa: ARG002 - other policies weigh sizes
        """Note a block that became resident."""
        self._order[block] = None
        self._order.move_to_end(block)

    def touch(self, block: BlockId) -> None:
        """Note a read of a block."""
        if block in self._order:
            self._order.move_to_end(block)

    def remove(self, block: BlockId, *, evicted: bool = False) -> None:  # noqa: ARG002 - likewise
        """Forget a block."""
        self._order.pop(block, None)

    def victims(self) -> Iterator[BlockId]:
        """Yield blocks from the oldest read to the newest."""
        return iter(self._order)


class FrequencySketch:
    """Estimates how often something was seen lately, in little memory (a count-min sketch).

    Counters stop at 15. When as many things were noted as there are ten for each counter of a row,
    all counters are halved: what was popular last week no longer outweighs what is popular today.
    An estimate may be too high, when things share all their counters, and is never too low.
    """

    ROWS = 4
    COUNT_MAX = 15
    NOTES_PER_COUNTER = 10

    def __init__(self, width: int = 65536) -> None:
        """Make a sketch for about ``width`` different things."""
        self._width = width
        self._rows = [bytearray(width) for _ in range(self.ROWS)]
        self._noted = 0

    def note(self, block: BlockId) -> None:
        """Count one sight."""
        for row, at in zip(self._rows, self._places(block), strict=True):
            if row[at] < self.COUNT_MAX:
                row[at] += 1
        self._noted += 1
        if self._noted >= self._width * self.NOTES_PER_COUNTER:
            self._age()

    def estimate(self, block: BlockId) -> int:
        """Return about how often it was seen since long."""
        return min(row[at] for row, at in zip(self._rows, self._places(block), strict=True))

    def _places(self, block: BlockId) -> list[int]:
        # A checksum, not hash(): text hashes differ from process to process, and a run of the
        # simulation must be repeatable. The two halves give four independent enough places.
        first = crc32(f"{block.file_version}/{block.index}".encode())
        second = crc32(first.to_bytes(4, "little"), 0x9E3779B9) | 1
        return [(first + row * second) % self._width for row in range(self.ROWS)]

    def _age(self) -> None:
        halves = bytes(value // 2 for value in range(256))
        self._rows = [row.translate(halves) for row in self._rows]
        self._noted //= 2


class TinyLfu:
    """Among the oldest blocks, the one that was read least often goes first."""

    def __init__(self) -> None:
        """Begin empty."""
        self._order: OrderedDict[BlockId, None] = OrderedDict()
        self._sketch = FrequencySketch()

    def add(self, block: BlockId, size: int) -> None:  # noqa: ARG002 - likewise
        """Note a block that became resident; coming back counts as a read."""
        self._sketch.note(block)
        self._order[block] = None
        self._order.move_to_end(block)

    def touch(self, block: BlockId) -> None:
        """Note a read of a block."""
        if block in self._order:
            self._sketch.note(block)
            self._order.move_to_end(block)

    def remove(self, block: BlockId, *, evicted: bool = False) -> None:  # noqa: ARG002 - likewise
        """Forget a block, but not how often it was read: it may come back."""
        self._order.pop(block, None)

    def victims(self) -> Iterator[BlockId]:
        """Yield the least read of the ``SAMPLE_SIZE`` oldest, then of those and the next oldest."""
        ages = count()
        oldest = iter(self._order)
        sample = [
            (self._sketch.estimate(block), next(ages), block)
            for block in islice(oldest, SAMPLE_SIZE)
        ]
        heapq.heapify(sample)
        while sample:
            yield heapq.heappop(sample)[2]
            for block in islice(oldest, 1):
                heapq.heappush(sample, (self._sketch.estimate(block), next(ages), block))


@dataclass(slots=True)
class _Weighed:
    size: int
    reads: int
    value: float
    age: int


class SizeAware:
    """The block whose room costs least to win goes first (greedy-dual, size and frequency)."""

    def __init__(self) -> None:
        """Begin empty."""
        self._blocks: dict[BlockId, _Weighed] = {}
        self._heap: list[tuple[float, int, BlockId]] = []
        self._floor = 0.0
        """The value of the last victim: what comes now starts from it, so the unread sink."""
        self._ages = count()

    def add(self, block: BlockId, size: int) -> None:
        """Note a block that became resident."""
        self._weigh(block, _Weighed(size, 1, 0.0, 0))

    def touch(self, block: BlockId) -> None:
        """Note a read of a block."""
        weighed = self._blocks.get(block)
        if weighed is not None:
            weighed.reads += 1
            self._weigh(block, weighed)

    def remove(self, block: BlockId, *, evicted: bool = False) -> None:
        """Forget a block; an eviction raises the floor for all that come later."""
        weighed = self._blocks.pop(block, None)
        if weighed is not None and evicted:
            self._floor = max(self._floor, weighed.value)

    def victims(self) -> Iterator[BlockId]:
        """Yield blocks by rising value."""
        self._drop_stale()
        looked_at: list[tuple[float, int, BlockId]] = []
        try:
            while self._heap:
                entry = heapq.heappop(self._heap)
                if self._is_current(entry):
                    looked_at.append(entry)
                    yield entry[2]
        finally:
            for entry in looked_at:
                heapq.heappush(self._heap, entry)

    def _weigh(self, block: BlockId, weighed: _Weighed) -> None:
        size = max(weighed.size, 1)
        weighed.value = self._floor + weighed.reads * (size + REQUEST_COST_BYTES) / size
        weighed.age = next(self._ages)
        self._blocks[block] = weighed
        heapq.heappush(self._heap, (weighed.value, weighed.age, block))
        self._drop_stale()

    def _is_current(self, entry: tuple[float, int, BlockId]) -> bool:
        weighed = self._blocks.get(entry[2])
        return weighed is not None and weighed.age == entry[1]

    def _drop_stale(self) -> None:
        # A block that is weighed again leaves its old entry in the heap. Sorting anew when most
        # entries are old keeps the heap in proportion, at a constant cost for each entry.
        if len(self._heap) > 2 * len(self._blocks) + SAMPLE_SIZE:
            self._heap = [entry for entry in self._heap if self._is_current(entry)]
            heapq.heapify(self._heap)


_POLICIES: dict[str, type[LeastRecentlyUsed] | type[TinyLfu] | type[SizeAware]] = {
    "lru": LeastRecentlyUsed,
    "tinylfu": TinyLfu,
    "size": SizeAware,
}


def open_policy(name: str) -> EvictionPolicy:
    """Make the policy of that name.

    Raises:
        ConfigError: There is none.
    """
    try:
        return _POLICIES[name]()
    except KeyError:
        known = ", ".join(_POLICIES)
        raise ConfigError(f"no eviction policy {name!r}", hint=f"one of {known}") from None


@dataclass(frozen=True, slots=True)
class Retention:
    """What people decided about keeping."""

    pinned: frozenset[FileVersionId] = frozenset()
    """Never evicted."""
    ttls: Mapping[FileVersionId, float] = field(default_factory=dict)
    """Seconds without a read after which a block goes; a pin is stronger."""
    revision: int = 0
    """Grows with every decision; 0 for none yet."""

    def may_evict(self, file_version: FileVersionId) -> bool:
        """Say whether blocks of the file may be evicted at all."""
        return file_version not in self.pinned

    def is_expired(self, file_version: FileVersionId, *, read_at: float, now: float) -> bool:
        """Say whether a block that was last read at ``read_at`` has outlived its time."""
        ttl = self.ttls.get(file_version)
        return ttl is not None and self.may_evict(file_version) and now - read_at >= ttl
