"""Namespaces: which versions a mount shows, and where.

There are two: one dataset at the top of the mount (:mod:`.onedataset`), and all of them by their names
(:mod:`.alldatasets`).

Node numbers. Those of a version's files and folders begin with the number of its tree (:mod:`.trees`).
The folders above them are the mount's own and belong to tree 0: the top, a namespace, a dataset, its
``.versions``. A dataset's own folder belongs to the mount and not to a version, because what it
shows may move on to another version; what is found *in* it belongs to the version that it showed at
that moment. The same version below ``.versions`` is another tree to the kernel, which cannot have
one folder in two places.
"""

from collections.abc import Sequence
from typing import Any, Protocol

from cachefs.client.reader import OpenFile
from cachefs.core.manifest import VersionId
from cachefs.core.names import DatasetName
from cachefs.fuse.showing.attributes import Found, Statistics
from cachefs.fuse.showing.currents import KeptVersion
from cachefs.fuse.showing.listing import Listing
from cachefs.fuse.showing.trees import ShownVersion


class Catalogue(Protocol):
    """What there is besides the versions that were opened; from the coordinator. Errors as usual."""

    def datasets(self, *, timeout_seconds: float) -> Sequence[DatasetName]:
        """Return all datasets."""
        ...

    def versions(self, name: DatasetName, *, timeout_seconds: float) -> Sequence[KeptVersion]:
        """Return the versions of a dataset that are kept, the newest first."""
        ...

    def residency(
        self, name: DatasetName, version: VersionId, path: str, *, timeout_seconds: float
    ) -> dict[str, Any]:  # Any: JSON
        """Return where the blocks of a file are: ``blocks`` in all, ``workers`` with a count each."""
        ...


class Namespace(Protocol):
    """What a mount shows. Safe from any thread; raises ``CacheFSError`` and ``OSError``."""

    def lookup(self, parent: int, name: bytes) -> Found:
        """Return what a name in a folder means."""
        ...

    def getattr(self, node: int) -> Found:
        """Return a node's attributes."""
        ...

    def listing(self, node: int) -> Listing:
        """Return what is in a folder."""
        ...

    def open(self, node: int) -> OpenFile:
        """Open a file."""
        ...

    def place(self, node: int) -> tuple[ShownVersion, int] | None:
        """Return the version that a node is of, and its number there; ``None`` above datasets."""
        ...

    def try_place(self, node: int) -> tuple[ShownVersion, int] | None:
        """Return the same if nobody need be asked for it, and it is so for ever; else ``None``."""
        ...

    def names(self, node: int) -> Sequence[tuple[int, bytes]]:
        """Return where the kernel may know a file: folders, and its name in each."""
        ...

    def statistics(self) -> Statistics:
        """Return how much is shown."""
        ...
