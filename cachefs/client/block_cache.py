"""Verified blocks in the reader's memory: for reads of parts, and for readahead.

A block is verified as a whole, so a read of a part fetches all of it, and the parts read next come
from here. However many threads want a block, one fetches it (*single-flight*); the others wait for
it, and if it fails, the next of them tries itself. Buffers of blocks that went are used again,
because the first touch of fresh memory costs more than the copy out of it.
"""

import contextlib
import mmap
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from cachefs.client.fetching import Served
from cachefs.core.blocks import BlockId
from cachefs.errors import DeadlineError
from cachefs.ports import Runtime

_SPARE_BUFFERS_LIMIT = 4
_REST_SECONDS = 1.0
"""Who reads a block in parts, as the kernel does for a mount, reads the next one within this."""
_HUGE_PAGE_BYTES = 2 * 1024 * 1024
"""Of x86-64 and most others. A buffer in huge pages is first touched at five times the speed."""

Buffer = bytearray | mmap.mmap


class CachedBlock:
    """A block in memory. Its bytes are stable while it is in use."""

    def __init__(self, block: BlockId, buffer: Buffer, length: int) -> None:
        """Take a buffer that is at least as long as the block."""
        self.block = block
        self.buffer = buffer
        self.view = memoryview(buffer)[:length]
        self.served: Served | None = None
        """``None`` until the bytes are there and verified."""
        self.users = 1
        self.seen = 0
        """Bytes that reached callers."""
        self.used_at = 0.0
        """When a use ended last."""
        self.spent = 0
        """Bytes that reached callers who will not ask for them again."""


class BlockCache:
    """A bounded cache; safe from any thread. Blocks in use may exceed its capacity for a moment."""

    def __init__(self, runtime: Runtime, *, capacity_bytes: int) -> None:
        """Allocate nothing yet."""
        self._runtime = runtime
        self._capacity_bytes = capacity_bytes
        self._condition = runtime.condition()
        self._blocks: OrderedDict[BlockId, CachedBlock] = OrderedDict()
        self._used_bytes = 0
        self._spare: list[Buffer] = []
        self._promised: dict[BlockId, int] = {}
        """Room that is set aside, by the block that shall come into it."""

    def holds(self, block: BlockId) -> bool:
        """Say whether a block is here or on its way."""
        with self._condition:
            return block in self._blocks

    def expects(self, block: BlockId) -> bool:
        """Say whether a block is here, or on its way, or has room set aside."""
        with self._condition:
            return block in self._blocks or block in self._promised

    def try_promise(self, block: BlockId, length: int) -> bool:
        """Set room aside for a block that will be fetched; :meth:`withdraw` must follow.

        ``False`` if it would have to push out one that will be read. Room that is promised already,
        or a block that is here, is not counted twice.
        """
        with self._condition:
            if block in self._blocks or block in self._promised:
                return True
            if not self._has_room(length):
                return False
            self._promised[block] = length
            return True

    def withdraw(self, block: BlockId) -> None:
        """Give up room that was set aside; nothing if the block has come into it."""
        with self._condition:
            self._promised.pop(block, None)

    def _has_room(self, length: int) -> bool:
        wanted = sum(len(each.view) for each in self._blocks.values() if self._is_wanted(each))
        return wanted + sum(self._promised.values()) + length <= self._capacity_bytes

    def _is_wanted(self, cached: CachedBlock) -> bool:
        """Say whether a block is in use, or nobody has seen it, or its rest is about to be read."""
        if cached.users or not cached.seen:
            return True
        is_half_read = cached.seen < len(cached.view)
        return is_half_read and self._runtime.monotonic() - cached.used_at < _REST_SECONDS

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
            self.release(cached)
        return cached

    @contextmanager
    def obtain(
        self, block: BlockId, length: int, fetch: Callable[[memoryview], Served], *, deadline: float
    ) -> Iterator[CachedBlock]:
        """Use a block, fetching it if nobody else does; whatever ``fetch`` raises comes through.

        Raises:
            DeadlineError: Another thread's fetch did not end in time.
        """
        cached = self.acquire(block, length, fetch, deadline=deadline)
        try:
            yield cached
        finally:
            self.release(cached)

    def acquire(
        self, block: BlockId, length: int, fetch: Callable[[memoryview], Served], *, deadline: float
    ) -> CachedBlock:
        """Begin to use a block as :meth:`obtain` does; :meth:`release` must follow, in any thread."""
        cached = self._claim(block, length, deadline)
        try:
            if cached.served is None:
                self._fill(block, cached, fetch)
        except BaseException:
            self.release(cached)
            raise
        return cached

    def join(self, block: BlockId, *, deadline: float) -> CachedBlock | None:
        """Begin to use a block that is here or on its way; ``None`` if it is not, or did not come.

        Unlike :meth:`acquire` it fetches nothing, so who waits here keeps no lane busy.

        Raises:
            DeadlineError: Another thread's fetch did not end in time.
        """
        with self._condition:
            return self._wait_for(block, deadline)

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
            cached = self._wait_for(block, deadline)
            if cached is not None:
                return cached
            self._promised.pop(block, None)
            self._make_room(length)
            cached = CachedBlock(block, self._buffer(length), length)
            self._blocks[block] = cached
            self._used_bytes += length
            return cached

    def _wait_for(self, block: BlockId, deadline: float) -> CachedBlock | None:
        """Return a block for use once it is here; the condition is held."""
        while (cached := self._blocks.get(block)) is not None:
            if cached.served is not None:
                cached.users += 1
                self._blocks.move_to_end(block)
                return cached
            left = deadline - self._runtime.monotonic()
            if left <= 0:
                raise DeadlineError("another thread fetches the same block for too long")
            self._condition.wait(left)
        return None

    def release(self, cached: CachedBlock) -> None:
        """End one use of a block.

        One that is spent goes at once: its buffer is still in the processor's cache, and is the next
        to be filled.
        """
        with self._condition:
            cached.users -= 1
            cached.used_at = self._runtime.monotonic()
            is_spent = cached.spent >= len(cached.view) and not cached.users
            if is_spent and self._blocks.get(cached.block) is cached:
                self._remove(cached.block)
            self._make_room(0)

    def _make_room(self, length: int) -> None:
        """Push out the blocks used longest ago, if need be those that will be read too.

        The condition is held.
        """
        while self._used_bytes + length > self._capacity_bytes:
            idle = [key for key, each in self._blocks.items() if not each.users]
            if not idle:
                return
            done = (key for key in idle if not self._is_wanted(self._blocks[key]))
            self._remove(next(done, idle[0]))

    def _remove(self, block: BlockId) -> None:
        gone = self._blocks.pop(block)
        self._used_bytes -= len(gone.view)
        if len(self._spare) < _SPARE_BUFFERS_LIMIT:
            self._spare.append(gone.buffer)

    def _buffer(self, length: int) -> Buffer:
        for at in reversed(range(len(self._spare))):
            if len(self._spare[at]) >= length:
                return self._spare.pop(at)
        if length < _HUGE_PAGE_BYTES:
            return bytearray(length)
        buffer = mmap.mmap(-1, length)
        with contextlib.suppress(OSError):  # a kernel may be built without huge pages
            buffer.madvise(mmap.MADV_HUGEPAGE)
        return buffer
