"""The interface of a store that files are written to.

A file is written as parts, and becomes visible as a whole when it is finished: until then, whoever reads
at its path finds what was there before. Where a store can keep the parts of an unfinished file, another
process goes on with them, knowing nothing but what the first one noted.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, Protocol

Stop = Callable[[], bool]
"""Says whether nobody wants the file any more; asked while bytes move, and cheap."""

ReadBack = Callable[[int, int], memoryview]
"""From offset and length to the bytes; fewer, where there are none."""


@dataclass(frozen=True, slots=True)
class NewFile:
    """What is to be written."""

    path: str
    """Relative to the destination's URL."""
    size: int
    part_bytes: int
    """Of each part but the last."""
    key: str
    """Of this content at this path, for this purpose: who resumes gives the same."""


class Writing(Protocol):
    """One file that is being written. Raises ``OriginError`` and ``CapacityError``, and nothing else.

    The owner ends it with one of :meth:`finish`, :meth:`discard` and :meth:`close`.
    """

    in_order: bool
    """Parts must be written one after the other; else in any order, from any thread."""
    read_back: ReadBack | None
    """Reads what was written, as the store has it, before the file is finished; ``None`` where only
    finished files can be read."""
    state: str
    """To be noted before the first part is written, and given to whoever resumes; may be empty."""

    def write(self, offset: int, data: memoryview, stop: Stop) -> None:
        """Write a part. Writing it again is allowed, and replaces it.

        Raises:
            StepCancelledError: ``stop`` said so; the part is not written.
        """
        ...

    def finish(self) -> str:
        """Make it visible, durably; return its token, as an origin at the same URL lists it."""
        ...

    def discard(self) -> None:
        """Remove what was written."""
        ...

    def close(self) -> None:
        """Let go of it; what was written stays for whoever resumes, if the store can keep it."""
        ...


class Resumed(NamedTuple):
    """An unfinished file, found again."""

    writing: Writing
    parts: frozenset[int] | None
    """Numbers of the parts that the store has; ``None``: it cannot say, and those that were noted are
    to be read and compared."""


class Destination(Protocol):
    """A store that files are written to, at one URL. Safe from any thread."""

    part_bytes_min: int
    """Parts are not smaller, but for the last of a file."""
    resumes: bool
    """Whether unfinished files can be resumed."""

    def begin(self, file: NewFile) -> Writing:
        """Begin a file.

        Raises:
            OriginDeniedError: It may not be written there.
            OriginNotFoundError: There is no such bucket.
            OriginUnavailableError: The store does not answer.
        """
        ...

    def resume(self, file: NewFile, state: str) -> Resumed | None:
        """Find an unfinished file again; ``None`` if nothing is left of it."""
        ...

    def remove(self, path: str) -> None:
        """Remove a finished file; nothing happens if there is none."""
        ...

    def close(self) -> None:
        """Release connections; idempotent."""
        ...
