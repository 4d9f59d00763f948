"""Verified blocks in the reader's memory: for reads of parts, and for readahead.

A block is verified as a whole, so a read of a part fetches all of it, and the parts read next come
from here. However many threads want a block, one fetches it (*single-flight*); the others wait for
it, and if it fails, the next of them tries itself. Buffers of blocks that went are used again,
because the first touch of fresh memory costs more than the copy out of it.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from cachefs.client.fetching import Served
from cachefs.core.blocks import BlockId
from cachefs.errors import DeadlineError
from cachefs.ports import Runtime

_SPARE_BUFFERS_LIMIT = 4


class CachedBlock:
    """A block in memory. Its bytes are stable while it is in use."""

    def __init__(self, buffer: bytearray, length: int) -> None:
        """Take a buffer that is at least as long as the block."""
        self.buffer = buffer
        self.view = memoryview(buffer)[:length]
        self.served: Served | None = None
        """``None`` until the bytes are there and verified."""
        self.users = 1
        self.delivered = False
        """Whether any of it reached a caller before."""


class BlockCache:
    """A bounded cache; safe from any thread. Blocks in use may exceed its capacity for a moment."""

    def __init__(self, runtime: Runtime, *, capacity_bytes: int) -> None:
        """Allocate nothing yet."""
        self._runtime = runtime
        self._capacity_bytes = capacity_bytes
        self._condition = runtime.condition()
        self._blocks: OrderedDict[BlockId, CachedBlock] = OrderedDict()
        self._used_bytes = 0
        self._spare: list[bytearray] = []

    def holds(self, block: BlockId) -> bool:
        """Say whether a block is here or on its way."""
        with self._condition:
            return block in self._blocks

    def has_room(self, length: int) -> bool:
        """Say whether a block can come in without pushing out one that no one has seen."""
        with self._condition:
            unseen = sum(
                len(each.view) for each in self._blocks.values() if each.users or not each.delivered
            )
            return unseen + length <= self._capacity_bytes

    def find(self, block: BlockId, into: memoryview, start: int) -> CachedBlock | None:
        """Copy from a block that is here; ``None`` if it is not, or not yet."""
        with self._condition:
            cached = self._blocks.get(block)
            if cached is None or cached.served is None:
                return None
            cached.users += 1
            self._blocks.move_to_end(block)
        try:
            into[:] = cached.view[start : start + len(into)]
        finally:
            self._release(cached)
        return cached

    @contextmanager
    def obtain(
        self, block: BlockId, length: int, fetch: Callable[[memoryview], Served], *, deadline: float
    ) -> Iterator[CachedBlock]:
        """Use a block, fetching it if nobody else does; whatever ``fetch`` raises comes through.

        Raises:
            DeadlineError: Another thread's fetch did not end in time.
        """
        cached = self._claim(block, length, deadline)
        try:
            if cached.served is None:
                self._fill(block, cached, fetch)
            yield cached
        finally:
            self._release(cached)

    def _fill(
        self, block: BlockId, cached: CachedBlock, fetch: Callable[[memoryview], Served]
    ) -> None:
        served = None
        try:
            served = fetch(cached.view)
        finally:
            with self._condition:
                cached.served = served
                if served is None:
                    del self._blocks[block]
                    self._used_bytes -= len(cached.view)
                self._condition.notify_all()

    def _claim(self, block: BlockId, length: int, deadline: float) -> CachedBlock:
        """Return the block for use, or a new one that the caller must fill."""
        with self._condition:
            while (cached := self._blocks.get(block)) is not None:
                if cached.served is not None:
                    cached.users += 1
                    self._blocks.move_to_end(block)
                    return cached
                left = deadline - self._runtime.monotonic()
                if left <= 0:
                    raise DeadlineError("another thread fetches the same block for too long")
                self._condition.wait(left)
            self._make_room(length)
            cached = CachedBlock(self._buffer(length), length)
            self._blocks[block] = cached
            self._used_bytes += length
            return cached

    def _release(self, cached: CachedBlock) -> None:
        with self._condition:
            cached.users -= 1
            self._make_room(0)

    def _make_room(self, length: int) -> None:
        """Push out the blocks used longest ago; the condition is held."""
        while self._used_bytes + length > self._capacity_bytes:
            idle = next((key for key, each in self._blocks.items() if not each.users), None)
            if idle is None:
                return
            gone = self._blocks.pop(idle)
            self._used_bytes -= len(gone.view)
            if len(self._spare) < _SPARE_BUFFERS_LIMIT:
                self._spare.append(gone.buffer)

    def _buffer(self, length: int) -> bytearray:
        for at, buffer in enumerate(self._spare):
            if len(buffer) >= length:
                return self._spare.pop(at)
        return bytearray(length)
