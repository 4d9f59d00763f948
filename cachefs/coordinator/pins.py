"""Pins: what people decided about keeping, for all datasets together.

What workers obey is a list of file versions, of the current versions only. It has a revision of its
own in the store, which grows only when the list may be another one. So a renewal, which says which
revision its worker has, carries the list only when there is news; and a list that is pushed to a
worker at once is not undone by an older one that is still on its way.
"""

from sqlalchemy import Connection

from cachefs.coordinator.manifests import Manifests
from cachefs.coordinator.store import counters
from cachefs.coordinator.store import datasets as rows
from cachefs.core.blocks import FileVersionId
from cachefs.core.datasets import Dataset
from cachefs.core.eviction import Retention
from cachefs.errors import CapacityError

FILES_LIMIT = 700_000
"""Pinned file versions and such with a time to live: a message has room for so many."""


class Pins:
    """The pins and times to live of all datasets. Safe from any thread."""

    def __init__(self, manifests: Manifests) -> None:
        """Find the files of datasets in manifests."""
        self._manifests = manifests
        self._last = Retention(revision=-1)

    def read(self, connection: Connection) -> Retention:
        """Return all pins and times to live, as a transaction sees them."""
        revision = counters.read(connection)["pins"]
        if self._last.revision != revision:
            self._last = self._collect(connection, revision)
        return self._last

    def note(self, connection: Connection, old: Dataset | None, new: Dataset | None) -> None:
        """Begin a new revision if a dataset's change, which is stored, touches the list.

        Raises:
            CapacityError: There would be too many.
        """
        if _kept(old) == _kept(new):
            return
        collected = self._collect(connection, counters.add(connection, "pins"))
        if len(collected.pinned) + len(collected.ttls) > FILES_LIMIT:
            raise CapacityError(
                f"more than {FILES_LIMIT} files would be pinned or have a time to live",
                hint="unpin others first, or pin less",
            )

    def _collect(self, connection: Connection, revision: int) -> Retention:
        pinned: set[FileVersionId] = set()
        ttls: dict[FileVersionId, float] = {}
        for dataset in rows.every(connection):
            if dataset.current is None or not (dataset.pins or dataset.ttl_seconds):
                continue
            manifest = self._manifests.find(connection, dataset.current)
            if manifest is None:
                continue
            for path in dataset.pins:
                pinned.update(entry.file_version for entry in manifest.below(path))
            if dataset.ttl_seconds:
                ttls.update((entry.file_version, dataset.ttl_seconds) for entry in manifest.files)
        mortal = {name: seconds for name, seconds in ttls.items() if name not in pinned}
        return Retention(frozenset(pinned), mortal, revision)


def _kept(dataset: Dataset | None) -> tuple[object, ...]:
    """Return what of a dataset decides about its part of the list."""
    if dataset is None or not (dataset.pins or dataset.ttl_seconds):
        return ()
    return dataset.pins, dataset.ttl_seconds, dataset.current
