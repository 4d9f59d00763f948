"""The store of record, as one adapter for each kind of store shows it."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from cachefs.core.datasets import OriginSpec
from cachefs.core.manifest import FileEntry


@dataclass(frozen=True, slots=True)
class OriginFile:
    """One file as the origin lists it."""

    path: str
    """Relative to the dataset's URL."""
    size: int
    token: str
    digest: str
    """``algorithm:hex`` if the origin vouches for the whole content, else empty."""


class Origin(Protocol):
    """The store of record, read-only, at one URL.

    Methods are safe from any thread, and block. They raise ``OriginError`` and nothing else. They do
    not retry: decorators do. Each call ends within the deadline that the origin was opened with.
    """

    @property
    def client(self) -> str:
        """``direct``, ``obstore``, ``fsspec``, ``local``, ``http`` or ``hub``: what moves the bytes."""
        ...

    @property
    def reason(self) -> str:
        """Why this client was chosen, in a phrase."""
        ...

    def pin(self) -> OriginSpec:
        """Return the spec with anything that moves pinned down, such as a branch to its commit."""
        ...

    def list_files(self) -> Iterator[OriginFile]:
        """Yield every file below the URL, once, in any order; folders and their markers are not files.

        Raises:
            OriginNotFoundError: Nothing is there.
            OriginDeniedError: The credentials are wrong.
            OriginUnavailableError: It did not answer, or asked us to wait.
        """
        ...

    def read_range(
        self, entry: FileEntry, offset: int, length: int, buffer: memoryview | None = None
    ) -> memoryview:
        """Return exactly the bytes of a range that lies within the file.

        They are in ``buffer``, if there is one that is long enough and the client can receive
        there, else in memory that nobody else uses.

        They are from the content that ``entry.token`` names, or it is an error: an answer is never
        short, never of another version, never decompressed or padded.

        Raises:
            OriginChangedError: The object is another one by now.
            OriginNotFoundError: The object is gone.
            OriginProtocolError: The answer cannot be used.
            OriginDeniedError: The credentials are wrong.
            OriginUnavailableError: It did not answer, or asked us to wait.
        """
        ...

    def close(self) -> None:
        """Release connections; idempotent."""
        ...
