"""Files for programs: what Python calls a raw binary file, over the reader library."""

import io
from typing import TYPE_CHECKING, NoReturn

from cachefs.client.reader import OpenFile
from cachefs.core.names import printable

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer


class File(io.RawIOBase):
    """A file of a dataset, open for reading, with a position.

    Every read is as long as what was asked for, or ends at the end of the file, or raises. Wrap it in
    ``io.BufferedReader`` for many small reads, in ``io.TextIOWrapper`` for text. The position is for
    one thread; :meth:`read_into` and :meth:`read_at` leave it alone and are for all of them.
    """

    mode = "rb"

    def __init__(self, file: OpenFile) -> None:
        """Own an open file."""
        super().__init__()
        self._file = file
        self._position = 0

    @property
    def name(self) -> str:
        """The path within the dataset."""
        return self._file.path

    @property
    def path(self) -> str:
        """The path within the dataset."""
        return self._file.path

    @property
    def size(self) -> int:
        """In bytes."""
        return self._file.size

    def __repr__(self) -> str:
        return f"<cachefs file {printable(self.path)!r}, {self.size} bytes>"

    def readable(self) -> bool:
        """Say yes."""
        return True

    def seekable(self) -> bool:
        """Say yes."""
        return True

    def tell(self) -> int:
        """Return the position, in bytes."""
        self._check_open()
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """Move the position and return it; beyond the end there is nothing to read.

        Raises:
            ValueError: It would be before the beginning, or ``whence`` is none of 0, 1, 2.
        """
        self._check_open()
        starts = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self.size}
        if whence not in starts:
            raise ValueError(f"whence is {whence}, and must be 0, 1 or 2")
        if starts[whence] + offset < 0:
            raise ValueError("a position before the beginning")
        self._position = starts[whence] + offset
        return self._position

    def readinto(self, buffer: "WriteableBuffer", /) -> int:
        """Fill a buffer from the position on, and return how many bytes there were."""
        self._check_open()
        view = memoryview(buffer).cast("B")
        count = self._file.read_into(self._position, view)
        self._position += count
        return count

    def readall(self) -> bytes:
        """Return everything from the position on."""
        return self.read(max(0, self.size - self._position))

    def read(self, size: int | None = -1, /) -> bytes:
        """Return ``size`` bytes from the position on, or all."""
        self._check_open()
        if size is None or size < 0:
            size = self.size
        found = self._file.read(self._position, size)
        self._position += len(found)
        return found

    def read_at(self, offset: int, length: int) -> bytes:
        """Return a range of the file, cut at its end; from any thread.

        Raises:
            CacheFSError: As :meth:`read_into`.
        """
        self._check_open()
        return self._file.read(offset, length)

    def read_into(self, offset: int, into: memoryview) -> int:
        """Read a range into a buffer until it is full or the file ends; from any thread.

        After the return, or an exception, nobody writes into the buffer.

        Args:
            offset: Where to begin, in bytes.
            into: A writable buffer.

        Returns:
            The count of bytes.

        Raises:
            DeadlineError: It did not end within ``deadline_seconds``.
            OriginError: A block could not be filled.
            IntegrityError: All that was served was wrong.
            WorkerUnavailableError: Nobody could serve a block.
        """
        self._check_open()
        return self._file.read_into(offset, into)

    def write(self, _data: object, /) -> NoReturn:
        """Refuse: datasets are read-only."""
        raise io.UnsupportedOperation("a dataset is not written to")

    def close(self) -> None:
        """Give back what was lent; idempotent."""
        if not self.closed:
            self._file.close()
        super().close()

    def _check_open(self) -> None:
        if self.closed:
            raise ValueError("the file is closed")
