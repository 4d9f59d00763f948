"""Memory for tensors: buffers of huge pages, and mappings of files.

The first touch of fresh memory in 4 KiB pages costs five times the copy into it (2 against 10 GB/s
were measured), so what is large is asked for in huge pages, at an address that lets the kernel give
them. A mapping of a file is private: tensors over it may be written, and nobody else sees it.

Both are freed when the last tensor over them is gone.
"""

import contextlib
import ctypes
import mmap
import weakref
from collections.abc import Sequence

from cachefs.core.blocks import Range
from cachefs.ports import Runtime

HUGE_PAGE_BYTES = 2 * 1024 * 1024
"""Of x86-64 and most others."""
_MADV_POPULATE_READ = 22
"""Linux 5.14; Python has no name for it."""
_POPULATE_BYTES = 64 * 1024 * 1024
"""Between two looks at whether the mapping is still wanted."""


class Buffer(mmap.mmap):
    """Anonymous memory; a class of its own because one can refer to it weakly."""


def allocate(size: int) -> tuple[memoryview, "Buffer | None"]:
    """Return so many bytes of writable memory, and whose end is the end of their use.

    Small buffers have no owner: they are ordinary memory.
    """
    if size < HUGE_PAGE_BYTES:
        return memoryview(bytearray(size)), None
    buffer = Buffer(-1, size + HUGE_PAGE_BYTES, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    with contextlib.suppress(OSError):  # a kernel without huge pages
        buffer.madvise(mmap.MADV_HUGEPAGE)
    start = -_address(buffer) % HUGE_PAGE_BYTES
    return memoryview(buffer)[start : start + size], buffer


def _address(memory: mmap.mmap | memoryview) -> int:
    return ctypes.addressof(ctypes.c_char.from_buffer(memory))


class MappedFile:
    """A private mapping of a whole file; it outlives the descriptor."""

    def __init__(self, descriptor: int, size: int) -> None:
        """Map the first ``size`` bytes, which the file must have; nothing is read.

        Raises:
            OSError: The file cannot be mapped.
        """
        self._mapping = mmap.mmap(
            descriptor, size, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ | mmap.PROT_WRITE
        )
        self.view = memoryview(self._mapping)

    @property
    def mapping(self) -> mmap.mmap:
        """What the tensors refer to."""
        return self._mapping


def populate(runtime: Runtime, wanted: Sequence[tuple[MappedFile, Sequence[Range]]]) -> None:
    """Have the kernel map ranges ahead of their use, in a thread that ends by itself.

    It ends when they are mapped, or soon after the last user of the mappings has gone.
    """
    work = [(weakref.ref(mapped.mapping), _address(mapped.view), each) for mapped, each in wanted]

    def map_all() -> None:
        # ctypes releases the interpreter's lock during the call, which may read from a disk.
        madvise = ctypes.CDLL(None).madvise
        for mapping, base, ranges in work:
            for each in ranges:
                for offset in range(each.offset, each.end, _POPULATE_BYTES):
                    held = mapping()  # nobody unmaps it during the call
                    if held is None:
                        break
                    start = offset - offset % mmap.PAGESIZE
                    length = ctypes.c_size_t(min(each.end, offset + _POPULATE_BYTES) - start)
                    if madvise(ctypes.c_void_p(base + start), length, _MADV_POPULATE_READ):
                        return  # an older kernel: pages are then mapped when they are touched
                    del held

    runtime.start("cachefs-populate", map_all)
