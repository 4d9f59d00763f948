"""Open files, as fsspec's callers expect them: with a buffer, and good on both sides of a fork.

The buffer is Python's own :class:`io.BufferedReader`: small reads and lines are served from it in
C, and what is longer than the buffer goes straight to where the caller wants it. Reading ahead over
the network is not done here but by the reader library, a few blocks at a time.
"""

import io
import os
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from cachefs.client.reader import OpenFile
from cachefs.ports import Runtime
from cachefs.sdk.files import File

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

_LAST_CALLS_SECONDS = 1.0
"""How long the end of the process waits for what others do with our files."""
_LOOK_SECONDS = 0.002
System = Any
"""A :class:`cachefs.sdk.filesystem.system.CacheFileSystem`, which opens the files of this module."""


class Calls:
    """Counts the reads and closes of files that are under way, for the end of the process to wait.

    pyarrow reads and closes in threads of its own, and closes when the program has its table already
    and may be about to end. A thread that comes back from waiting to an interpreter that is no more
    takes the whole process down. There is no lock: the collector may close a file at any point.
    """

    def __init__(self, runtime: Runtime) -> None:
        """Count from nothing."""
        self._runtime = runtime
        self._under_way: deque[None] = deque()
        self._pid = os.getpid()

    def __enter__(self) -> None:
        """Count one more."""
        self._under_way.append(None)

    def __exit__(self, *_: object) -> None:
        """Count one less."""
        self._under_way.pop()

    def wait(self) -> None:
        """Return when none is under way, or after a second; at once in the child of a fork."""
        if self._pid != os.getpid():
            return
        until = self._runtime.monotonic() + _LAST_CALLS_SECONDS
        self._runtime.sleep(_LOOK_SECONDS)  # who waits for the interpreter begins its call now
        while self._under_way and self._runtime.monotonic() < until:
            self._runtime.sleep(_LOOK_SECONDS)


class FileOfProcess(File):
    """A file that opens itself anew in the child of a fork, where nothing of the parent's is used."""

    def __init__(self, open_file: Callable[[], OpenFile], calls: Calls) -> None:
        """Open it now, and again after a fork."""
        super().__init__(open_file())
        self._open_file = open_file
        self._calls = calls
        self._pid = os.getpid()

    def readinto(self, buffer: "WriteableBuffer", /) -> int:
        """Fill a buffer from the position on, and return how many bytes there were."""
        with self._calls:
            return super().readinto(buffer)

    def read(self, size: int | None = -1, /) -> bytes:
        """Return ``size`` bytes from the position on, or all."""
        with self._calls:
            return super().read(size)

    def close(self) -> None:
        """Give back what was lent to this process; idempotent."""
        if self._pid == os.getpid():
            with self._calls:
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
