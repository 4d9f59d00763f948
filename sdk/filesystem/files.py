"""Open files, as fsspec's callers expect them: with a buffer, and good on both sides of a fork.

The buffer is Python's own :class:`io.BufferedReader`: small reads and lines are served from it in
C, and what is longer than the buffer goes straight to where the caller wants it. Reading ahead over
the network is not done here but by the reader library, a few blocks at a time.
"""

import io
import os
from collections.abc import Callable
from typing import Any

from cachefs.client.reader import OpenFile
from cachefs.sdk.files import File

System = Any
"""A :class:`cachefs.sdk.filesystem.system.CacheFileSystem`, which opens the files of this module."""


class FileOfProcess(File):
    """A file that opens itself anew in the child of a fork, where nothing of the parent's is used."""

    def __init__(self, open_file: Callable[[], OpenFile]) -> None:
        """Open it now, and again after a fork."""
        super().__init__(open_file())
        self._open_file = open_file
        self._pid = os.getpid()

    def close(self) -> None:
        """Give back what was lent to this process; idempotent."""
        if self._pid == os.getpid():
            super().close()
        else:
            io.RawIOBase.close(self)

    def _check_open(self) -> None:
        super()._check_open()
        if self._pid != os.getpid():
            self._file = self._open_file()
            self._pid = os.getpid()


class BufferedFile(io.BufferedReader):
    """A file of a ``cachefs://`` file system, open for reading."""

    def __init__(self, raw: FileOfProcess, fs: System, path: str, buffer_bytes: int) -> None:
        """Own an open file.

        Args:
            raw: The file.
            fs: Where it was opened.
            path: What it is called there.
            buffer_bytes: What a small read brings in at least.
        """
        super().__init__(raw, buffer_bytes)
        self.fs = fs
        self.path = path
        self.size = raw.size
        self.blocksize = buffer_bytes

    @property
    def details(self) -> dict[str, Any]:
        """What ``info`` of the file system says."""
        found: dict[str, Any] = self.fs.info(self.path)
        return found

    def info(self) -> dict[str, Any]:
        """Return what ``info`` of the file system says."""
        return self.details

    @property
    def full_name(self) -> str:
        """The URL."""
        return str(self.fs.unstrip_protocol(self.path))

    @property
    def loc(self) -> int:
        """The position, in bytes."""
        return self.tell()

    def __reduce__(self) -> tuple[Any, ...]:
        """Be opened again, at the same position, where it is sent."""
        return _reopen, (self.fs, self.path, self.blocksize, self.tell())


def _reopen(fs: System, path: str, buffer_bytes: int, position: int) -> BufferedFile:
    file: BufferedFile = fs.open(path, block_size=buffer_bytes)
    file.seek(position)
    return file
