"""Buffers: memory for blocks on their way in, used again and again.

The first touch of a fresh page costs more than the copy into it: the kernel clears the page first.
So a block is received where the block before it was. Buffers are mappings of their own, in large
pages as far as the kernel has them; what is not kept goes back to the system at once.
"""

import contextlib
import mmap
import threading


class Buffers:
    """Lends out buffers of one size; safe from any thread."""

    def __init__(self, size: int, *, kept_limit: int) -> None:
        """Make none yet, and keep at most ``kept_limit`` that nobody uses."""
        self._size = size
        self._kept_limit = kept_limit
        self._lock = threading.Lock()
        self._kept: list[memoryview] = []

    def take(self) -> memoryview:
        """Return a buffer, the one used last if there is one; its content is undefined."""
        with self._lock:
            if self._kept:
                return self._kept.pop()
        mapping = mmap.mmap(-1, self._size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        with contextlib.suppress(OSError):
            mapping.madvise(mmap.MADV_HUGEPAGE)
        return memoryview(mapping)

    def give(self, buffer: memoryview) -> None:
        """Take a buffer back, of which nobody uses any part any more."""
        with self._lock:
            if len(self._kept) < self._kept_limit:
                self._kept.append(buffer)
