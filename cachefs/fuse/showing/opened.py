"""Open files: where a mount's bytes come from.

Everybody who opens a file shares one :class:`OpenedFile`, with one history of what was read, one
borrowed descriptor, one readahead. It is closed with its last user.

An engine asks in one of three ways. :meth:`OpenedFile.whole_here` gives a descriptor that holds all
bytes, which the kernel can read by itself. :meth:`OpenedFile.views` gives memory to answer from.
:meth:`OpenedFile.read_into` fills memory that the engine brings.
"""

import mmap
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from cachefs.client.lenders import WholeFile
from cachefs.client.reader import OpenFile
from cachefs.errors import (
    CacheFSError,
    InvariantError,
    NotKnownError,
    OriginChangedError,
    OriginError,
)
from cachefs.fuse.showing.errno import FAILURES, failure
from cachefs.ports import Runtime

_READ_WHOLE = ".safetensors"
"""Loaders map these and touch them in order, which the kernel takes for random access at first."""
_BUFFERS_KEPT = 8
"""Buffers that wait to be used again; as many reads at once need no new one."""
_WHOLE_SECONDS = 2.0
"""An open does not wait longer to learn whether the file is whole here: it can do without."""
_REMEMBERED_SECONDS = 1.0
"""So long a read fails again at once that took at least as long to fail. The kernel asks once when it
reads ahead, and once more, at once, for the page that the program wants."""
_REMEMBERED_LIMIT = 64
"""Blocks of a file whose reads failed, of as many as the kernel reads ahead with at once."""
_BUFFER_BYTES_MIN = 1024 * 1024
"""The kernel's largest request, so that a buffer fits every one."""


class Buffers:
    """Page-aligned memory that is used again; safe from any thread."""

    def __init__(self) -> None:
        """Hold none yet."""
        self._idle: list[mmap.mmap] = []

    @contextmanager
    def borrowed(self, length: int) -> Iterator[memoryview]:
        """Lend a buffer of that length, with anything in it; the body may not keep it."""
        try:
            buffer = self._idle.pop()
        except IndexError:
            buffer = None
        if buffer is None or len(buffer) < length:
            buffer = mmap.mmap(-1, max(length, _BUFFER_BYTES_MIN))
        try:
            yield memoryview(buffer)[:length]
        finally:
            if len(self._idle) < _BUFFERS_KEPT:
                self._idle.append(buffer)


class OpenedFile:
    """A file of a mount with all who have opened it; safe from any thread."""

    def __init__(
        self,
        runtime: Runtime,
        node: int,
        file: OpenFile,
        buffers: Buffers,
        *,
        on_close: Callable[["OpenedFile"], None],
    ) -> None:
        """Come from :meth:`cachefs.fuse.showing.operations.Operations.open`, with no user yet."""
        self.node = node
        self.size = file.size
        self.users = 0
        """Opens less closes; counted by ``Operations`` under its lock."""
        self._runtime = runtime
        self._file = file
        self._buffers = buffers
        self._on_close = on_close
        self._lent: list[WholeFile] = []
        """What was given out; referred to, so that the descriptors stay open."""
        self._failed: dict[int, tuple[float, OSError]] = {}
        """By block: until when reads of it fail, and how."""

    def read_into(self, offset: int, into: memoryview) -> int:
        """Read until the buffer is full or the file ends; return the count.

        Raises:
            OSError: It did not work, or the file has changed at the origin (``ESTALE``).
        """
        with self._failing(offset, len(into)):
            return self._file.read_into(offset, into)

    @contextmanager
    def _failing(self, offset: int, length: int) -> Iterator[None]:
        """Translate what the body of the ``with`` statement raises, and remember it for a moment.

        Remembered are reads of a single block: one of several may have failed for any of them.
        """
        size = self._file.block_size
        block = offset // size
        single = length > 0 and block == (offset + length - 1) // size
        began = self._runtime.monotonic()
        until, known = self._failed.get(block, (began, None))
        if single and known is not None and began < until:
            raise OSError(known.errno, known.strerror)
        try:
            yield
        except FAILURES as error:
            raised = failure("read", self._reason(error), subject=self._file.path)
            now = self._runtime.monotonic()
            if single and now - began >= _REMEMBERED_SECONDS:
                if len(self._failed) >= _REMEMBERED_LIMIT:
                    self._failed = {}
                self._failed[block] = now + _REMEMBERED_SECONDS, raised
            raise raised from error

    def _reason(self, error: CacheFSError | InvariantError) -> CacheFSError | InvariantError:
        """Return what a failed read comes from: workers cannot serve what nobody knows any more."""
        if isinstance(error, InvariantError | OriginError):
            return error
        if isinstance(error, NotKnownError) or self._file.is_forgotten():
            return OriginChangedError("the dataset or its version was removed", hint=str(error))
        return error

    @contextmanager
    def views(self, offset: int, length: int) -> Iterator[Sequence[memoryview]]:
        """Lend the bytes of a range, cut at the end of the file, in as many pieces as it takes.

        They are valid in the body of the ``with`` statement.

        Raises:
            OSError: As :meth:`read_into`.
        """
        with (
            self._failing(offset, length),
            self._file.lend(offset, length, self._buffers.borrowed) as views,
        ):
            yield views

    def expect(self) -> None:
        """Begin to read ahead, if it is a file that programs read from begin to end."""
        if self._file.path.endswith(_READ_WHOLE):
            self._file.expect_all()

    def whole_here(self) -> int | None:
        """Return a descriptor that holds all bytes, verified and untouched since; else ``None``.

        It is open for reading, on a file of this node, and stays open until this object is closed.
        """
        try:
            whole = self._file.whole(timeout_seconds=_WHOLE_SECONDS) if self.size else None
        except FAILURES:
            return None  # The bytes may still be had in another way.
        if whole is None:
            return None
        if whole not in self._lent:
            self._lent.append(whole)
        return whole.fileno()

    def close(self) -> None:
        """End one use; the last one closes the file."""
        self._on_close(self)

    def release(self) -> None:
        """Close the file itself; idempotent."""
        self._file.close()
