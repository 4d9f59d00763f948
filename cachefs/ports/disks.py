"""A folder that a tier lives in, and that may be full, slow, torn or gone."""

from collections.abc import Iterator
from typing import Protocol


class DiskFile(Protocol):
    """An open file of a :class:`Disk`. Failures are ``OSError``, as the operating system says them."""

    def fileno(self) -> int:
        """Return the descriptor, for ``sendfile``; a simulated disk has none.

        It may write, so it never leaves this process; :meth:`lend` is for others.
        """
        ...

    def lend(self) -> int:
        """Return a new descriptor that can only read, for SCM_RIGHTS; the caller closes it.

        A simulated disk has none.
        """
        ...

    def shared(self) -> bool | None:
        """Say whether anybody else, in any process, has the file open; ``None`` if nobody can know.

        A mapping counts, and whatever the kernel has open on behalf of others. So does another
        :class:`DiskFile` of the same file. The name does not matter: the file may be unlinked.
        """
        ...

    def takes_room(self, offset: int, length: int) -> bool:
        """Say whether there is anything but a hole in a range, or on a page that it touches."""
        ...

    def pread_into(self, into: memoryview, offset: int) -> int:
        """Read until ``into`` is full or the file ends; return how many bytes were read."""
        ...

    def pwrite(self, data: memoryview, offset: int) -> None:
        """Write all of ``data``, or fail; after a failure any part of it may have been written."""
        ...

    def sync(self) -> None:
        """Return when what was written survives a power cut."""
        ...

    def truncate(self, size: int) -> None:
        """Set the size; new bytes are a hole and read as zeros."""
        ...

    def punch(self, offset: int, length: int) -> None:
        """Make a hole: the bytes read as zeros and take no space, for everybody who sees them."""
        ...

    def size(self) -> int:
        """Return the bytes from begin to end, holes included."""
        ...

    def stamp(self) -> int:
        """Return the change time in nanoseconds: it differs after anybody's write."""
        ...

    def close(self) -> None:
        """Release the descriptor; idempotent."""
        ...


class Disk(Protocol):
    """One folder, without sub-folders as far as its users can see. Failures are ``OSError``."""

    def open(self, name: str, *, create: bool = False) -> DiskFile:
        """Open a file for reading and writing; without ``create`` it must exist."""
        ...

    def names(self) -> Iterator[str]:
        """Yield the name of every file."""
        ...

    def remove(self, name: str) -> None:
        """Delete a file; one that is gone already is no error."""
        ...

    def replace(self, name: str, target: str) -> None:
        """Rename over ``target`` atomically and durably."""
        ...

    def refers(self, name: str, file: DiskFile) -> bool:
        """Say whether ``name`` is still this very file: neither deleted nor swapped for another."""
        ...

    def free_bytes(self) -> int:
        """Return what the file system could still take."""
        ...

    def sync(self) -> None:
        """Return when everything written to the folder's files survives a power cut."""
        ...

    def close(self) -> None:
        """Let go of the folder, so that another may open it; idempotent."""
        ...
