"""Sources: where a file's bytes come from, be it a dataset or a plain path."""

import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from cachefs.client.reader import OpenFile
from cachefs.core.names import printable
from cachefs.errors import ConfigError, OriginChangedError
from cachefs.ports import Closing

_PREAD_BYTES_MAX = 1 << 30
"""Linux reads a little less than 2 GiB at once."""


class Whole(Protocol):
    """A file of this node that holds all bytes, good as long as this object is referred to."""

    def fileno(self) -> int:
        """Return a descriptor that may be read."""
        ...


class Source(Protocol):
    """A file that tensors are read from. Safe from any thread."""

    @property
    def name(self) -> str:
        """For messages."""
        ...

    @property
    def size(self) -> int:
        """In bytes."""
        ...

    def read_into(self, offset: int, into: memoryview) -> None:
        """Fill a buffer with bytes that the file has.

        Raises:
            CacheFSError: They cannot be had.
            OSError: Nor from the disk.
        """
        ...

    def whole(self) -> Whole | None:
        """Return the file if all of it is on this node, vouched for at this moment."""
        ...

    def close(self) -> None:
        """Let go of the file; idempotent."""
        ...


class DatasetSource(Closing):
    """A file of a dataset, which the dataset keeps open."""

    def __init__(self, name: str, file: OpenFile) -> None:
        """Leave the file to the dataset to close."""
        self.name = name
        self._file = file
        self._whole: Whole | None = None

    @property
    def size(self) -> int:
        """In bytes."""
        return self._file.size

    def read_into(self, offset: int, into: memoryview) -> None:
        """Read by the road that all readers take."""
        self._file.read_into(offset, into)

    def whole(self) -> Whole | None:
        """Return the worker's file, vouched for when it was first found whole.

        Nothing is punched out of it as long as it is referred to, so that is as good as now.
        """
        if self._whole is None:
            self._whole = self._file.whole()
        return self._whole

    def close(self) -> None:
        """Do nothing: the file may be asked for again."""


class PathSource(Closing):
    """A file by its path, for whatever is not in a dataset."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Open the file.

        Raises:
            OSError: It cannot be opened.
            ConfigError: It is not a regular file.
        """
        self.name = os.fspath(path)
        if not stat.S_ISREG(Path(path).stat().st_mode):  # a pipe would wait for its writer
            raise ConfigError("not a regular file", subject=printable(self.name))
        self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self.size = os.fstat(self._descriptor).st_size

    def fileno(self) -> int:
        """Return the descriptor."""
        return self._descriptor

    def read_into(self, offset: int, into: memoryview) -> None:
        """Read with ``preadv``."""
        done = 0
        while done < len(into):
            part = into[done : done + _PREAD_BYTES_MAX]
            count = os.preadv(self._descriptor, [part], offset + done)
            if not count:
                raise OriginChangedError(
                    "the file was cut short while it was read", subject=printable(self.name)
                )
            done += count

    def whole(self) -> Whole | None:
        """Return itself."""
        return self

    def close(self) -> None:
        """Close the descriptor."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)


def read_bytes(source: Source) -> Callable[[int, int], bytes]:
    """Return a function that reads ``(offset, length)`` of a source."""

    def read(offset: int, length: int) -> bytes:
        buffer = bytearray(length)
        source.read_into(offset, memoryview(buffer))
        return bytes(buffer)

    return read
