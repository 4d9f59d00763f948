"""A file system that passes a folder through: ``python -m cachefs.benchmarks.mounts.passing``.

Its arguments are the library (``fusepy`` or ``mfusepy``), the folder and the mount point. It is what
one writes with either library in half an hour, after their own examples, with their defaults: a
system call for each request, and nothing kept.
"""

import importlib
import os
import sys
from collections.abc import Iterator
from typing import Any

LIBRARIES = {"fusepy": "fuse", "mfusepy": "mfusepy"}
"""The module of each library."""
_STAT = ("atime", "ctime", "gid", "mode", "mtime", "nlink", "size", "uid")


def command(library: str, folder: str) -> list[str]:
    """Return the command that mounts on ``{}``."""
    return [sys.executable, "-m", "cachefs.benchmarks.mounts.passing", library, folder, "{}"]


class Passing:
    """The operations, as both libraries call them."""

    def __init__(self, folder: str) -> None:
        """Show a folder."""
        self._folder = folder

    def getattr(self, path: str, handle: int | None = None) -> dict[str, Any]:
        """Return a file's attributes."""
        del handle
        status = os.lstat(self._folder + path)
        return {f"st_{name}": getattr(status, f"st_{name}") for name in _STAT}

    def readdir(self, path: str, handle: int) -> Iterator[str]:
        """Yield a folder's names."""
        del handle
        yield from (".", "..", *os.listdir(self._folder + path))  # noqa: PTH208 - names are what is wanted

    def open(self, path: str, flags: int) -> int:
        """Open a file."""
        return os.open(self._folder + path, flags)

    def read(self, path: str, size: int, offset: int, handle: int) -> bytes:
        """Read from an open file."""
        del path
        return os.pread(handle, size, offset)

    def release(self, path: str, handle: int) -> int:
        """Close a file."""
        del path
        os.close(handle)
        return 0


def main() -> None:
    """Mount and serve until it is unmounted."""
    library, folder, mountpoint = sys.argv[1:]
    module = importlib.import_module(LIBRARIES[library])
    # Each library has a base class of its own, and wants one.
    operations = type("Operations", (Passing, module.Operations), {})(folder)
    module.FUSE(operations, mountpoint, foreground=True, ro=True)


if __name__ == "__main__":
    main()
