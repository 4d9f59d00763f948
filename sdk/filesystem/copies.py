"""Copies of files on this machine: whole or not there at all.

A copy is written beside its target under another name, and renamed when it is complete. If the file
is whole on this node, the kernel copies it, without the bytes passing through the process, and on
some file systems without their being copied at all. Else two threads read and write by turns.
"""

import os
import secrets
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from functools import partial

from cachefs.client.reader import OpenFile
from cachefs.ports import Runtime
from cachefs.sdk.memory import allocate
from cachefs.sdk.parallel import run_all

Progress = Callable[[int], None]
"""Told of so many bytes more; by one thread at a time."""
_PART_BYTES = 16 * 1024 * 1024
"""Read and written at once: two of our blocks, so that both threads have a few under way."""
_THREADS = 2
_KERNEL_BYTES = 256 * 1024 * 1024
"""Copied by one call, between two reports of progress."""


def copy_file(runtime: Runtime, file: OpenFile, target: str, progress: Progress) -> None:
    """Copy a file to a path, replacing what is there. Its folder is made.

    Raises:
        OSError: The copy cannot be written; nothing is left behind.
        CacheFSError: The file cannot be read; likewise.
    """
    folder = os.path.dirname(target) or "."  # noqa: PTH120 - fsspec's paths are strings
    os.makedirs(folder, exist_ok=True)  # noqa: PTH103 - likewise
    part = os.path.join(folder, f".cachefs-{secrets.token_hex(8)}.part")  # noqa: PTH118 - likewise
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    try:
        try:
            copied = _copy_whole(file, descriptor, progress)
            _copy_parts(runtime, file, descriptor, copied, progress)
        finally:
            os.close(descriptor)
        os.replace(part, target)  # noqa: PTH105 - likewise
    except BaseException:
        with suppress(OSError):
            os.unlink(part)  # noqa: PTH108 - likewise
        raise


def _copy_whole(file: OpenFile, descriptor: int, progress: Progress) -> int:
    """Have the kernel copy a file that is whole on this node; return how far it came."""
    whole = file.whole()
    copied = 0
    if whole is None:
        return 0
    with suppress(OSError):  # not on or between these file systems: the rest is read and written
        while copied < file.size:
            length = min(_KERNEL_BYTES, file.size - copied)
            count = os.copy_file_range(whole.fileno(), descriptor, length, copied, copied)
            if not count:
                break
            copied += count
            progress(count)
    return copied


def _copy_parts(
    runtime: Runtime, file: OpenFile, descriptor: int, begin: int, progress: Progress
) -> None:
    guard = runtime.condition()
    buffers: deque[memoryview] = deque()

    def copy(offset: int) -> None:
        buffer = buffers.popleft() if buffers else allocate(min(_PART_BYTES, file.size))[0]
        count = file.read_into(offset, buffer[: min(_PART_BYTES, file.size - offset)])
        written = 0
        while written < count:
            written += os.pwrite(descriptor, buffer[written:count], offset + written)
        buffers.append(buffer)
        with guard:
            progress(count)

    offsets = range(begin, file.size, _PART_BYTES)
    run_all(runtime, [partial(copy, offset) for offset in offsets], _THREADS)
