"""What programs do with files, mounted or not: the same code for every contestant.

Each returns how many bytes, or files, it went through. Buffers are prepared and used again, so that
what is measured is the file system and not the program's memory.
"""

import mmap
import os
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cachefs.benchmarks.floors import prepared
from cachefs.config.schema import MIB

_LINE_BYTES = 64
"""What a processor fetches at once; one byte of each is looked at."""
_RANDOM_BYTES = 128 * 1024


def drop_pages(paths: Sequence[Path]) -> None:
    """Have the kernel forget the pages of files, as far as nobody has them mapped."""
    for path in paths:
        with path.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def read_in_order(paths: Sequence[Path]) -> int:
    """Read as ``dd bs=1M`` does."""
    buffer = prepared(MIB)
    total = 0
    for path in paths:
        with path.open("rb", buffering=0) as file:
            while count := file.readinto(buffer):
                total += count
    return total


def read_at_random(paths: Sequence[Path], *, seed: int) -> int:
    """Read a quarter of the bytes in pieces of 128 KiB, at random places."""
    draw = random.Random(seed)
    buffer = prepared(_RANDOM_BYTES)
    total = 0
    for path in paths:
        size = path.stat().st_size
        file = os.open(path, os.O_RDONLY)
        try:
            for _ in range(max(1, size // _RANDOM_BYTES // 4)):
                at = draw.randrange(max(1, size - _RANDOM_BYTES))
                total += os.preadv(file, [buffer], at)
        finally:
            os.close(file)
    return total


def touch_mapped(paths: Sequence[Path]) -> int:
    """Map each file and look at every cache line of it, in order."""
    total = 0
    for path in paths:
        with (
            path.open("rb") as file,
            mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as mapped,
        ):
            # A slice with a step copies one byte a line, in C, which touches all of them.
            for begin in range(0, len(mapped), 4 * MIB):
                mapped[begin : begin + 4 * MIB : _LINE_BYTES]
            total += len(mapped)
    return total


def load_safetensors(paths: Sequence[Path]) -> int:
    """Load every tensor of safetensors files with the usual library, which maps them."""
    import ml_dtypes  # noqa: F401, PLC0415 - numpy knows bfloat16 by it
    import safetensors  # noqa: PLC0415 - only this needs it

    total = 0
    for path in paths:
        opened: Any = safetensors.safe_open(path, framework="numpy")
        with opened as file:
            for name in file.keys():  # noqa: SIM118 - it is no dictionary
                total += file.get_tensor(name).nbytes
    return total


def stat_each(folder: Path, names: Sequence[str]) -> int:
    """Ask for the attributes of each file by its name."""
    for name in names:
        (folder / name).stat()
    return len(names)


def list_long(folder: Path) -> int:
    """List a folder with attributes, as ``ls -l`` does."""
    count = 0
    with os.scandir(folder) as entries:
        for entry in entries:
            entry.stat(follow_symlinks=False)
            count += 1
    return count
