"""Manifests: decoded from the store, the most recently used."""

from collections import OrderedDict

from sqlalchemy import Connection

from cachefs.coordinator.store import datasets as rows
from cachefs.coordinator.store.engine import Store
from cachefs.core.manifest import Manifest, VersionId
from cachefs.core.names import printable
from cachefs.errors import NotKnownError
from cachefs.ports import Runtime

_FILES_CACHED_LIMIT = 2_000_000
"""Manifests are kept decoded until they have so many files together, about 1 GB; the one that was
used last is kept always."""


class Manifests:
    """Reads manifests, and keeps some. Safe from any thread."""

    def __init__(self, store: Store, runtime: Runtime) -> None:
        """Decode what is in a store."""
        self._store = store
        self._turn = runtime.condition()
        self._recent: OrderedDict[str, Manifest] = OrderedDict()

    def put(self, manifest: Manifest) -> None:
        """Keep a manifest that is at hand."""
        with self._turn:
            self._recent[manifest.id] = manifest
            self._recent.move_to_end(manifest.id)
            files = sum(len(one.files) for one in self._recent.values())
            while files > _FILES_CACHED_LIMIT and len(self._recent) > 1:
                _, dropped = self._recent.popitem(last=False)
                files -= len(dropped.files)

    def get(self, version: str) -> Manifest:
        """Return a manifest.

        Raises:
            NotKnownError: No dataset has that version.
        """
        with self._store.read() as connection:
            manifest = self.find(connection, version)
        if manifest is None:
            raise NotKnownError("no such version", subject=printable(version))
        return manifest

    def find(self, connection: Connection, version: str) -> Manifest | None:
        """Return a manifest within a transaction, or ``None``."""
        with self._turn:
            manifest = self._recent.get(version)
            if manifest is not None:
                self._recent.move_to_end(version)
        if not rows.has_manifest(connection, version):
            return None
        if manifest is None:
            encoded = rows.manifest(connection, version)
            if encoded is None:
                return None
            manifest = Manifest.decode(encoded, VersionId(version))
            self.put(manifest)
        return manifest
