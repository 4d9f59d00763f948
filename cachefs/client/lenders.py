"""What workers on this node lend, as the reader sees it: an interface that a transport implements."""

from typing import Protocol

from cachefs.core.blocks import Range
from cachefs.core.membership import View
from cachefs.ports import FileRef


class WholeFile(Protocol):
    """A file of this node that holds all bytes of a file version."""

    def fileno(self) -> int:
        """Return a read-only descriptor, which is good as long as this object is referred to."""
        ...


class LocalFile(Protocol):
    """A file version as the workers on this node have lent it. Safe from any thread."""

    def read_into(
        self, offset: int, into: memoryview, *, deadline: float
    ) -> tuple[list[Range], str]:
        """Read what is here; return the ranges that are not, and the zone of those that lent it.

        After the deadline nobody is asked any more.
        """
        ...

    def whole(self, *, deadline: float) -> "WholeFile | None":
        """Return the file if one worker holds all of it, verified and untouched at this moment."""
        ...

    def expect(self) -> None:
        """Note that blocks have come in since the last look."""
        ...

    def close(self) -> None:
        """Give the descriptors back; idempotent."""
        ...


class LocalFiles(Protocol):
    """Workers on this node that lend descriptors."""

    def open(self, file: FileRef, view: View) -> LocalFile | None:
        """Return a file, or ``None`` if no worker of the view is on this node."""
        ...
