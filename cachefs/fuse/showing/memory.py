"""What a mount remembers, so that a process that takes it over gives the same things the same numbers.

Two kinds of memory. Small records say which numbers were given, in order (:class:`Memory`); where a
keeper watches over the mount, they are in memory that it holds, and survive a kill -9 of the process
that serves. Manifests are large and can be had again from the coordinator or a worker; a copy in the
mount's run folder (:class:`VersionFolder`) is for the time when none of them answers.
"""

import logging
from pathlib import Path
from typing import Any, Protocol

from cachefs.core.manifest import Manifest, VersionId
from cachefs.core.names import DatasetName
from cachefs.errors import CacheFSError
from cachefs.ports import ResolvedVersion
from cachefs.wire.http import decode_version, encode_version

_log = logging.getLogger("cachefs.fuse")


class Memory(Protocol):
    """Records of one mount, oldest first. Safe from any thread."""

    def records(self) -> list[dict[str, Any]]:
        """Return all records, those of the processes before this one included."""
        ...

    def append(self, record: dict[str, Any]) -> None:
        """Add a record, a small JSON object with a ``kind``; it is there when this returns.

        One that has a ``key`` may take the place of earlier ones with the same key.
        """
        ...


class Versions(Protocol):
    """Versions that were shown, with their manifests. Safe from any thread."""

    def find(self, name: DatasetName, version: VersionId) -> ResolvedVersion | None:
        """Return a version, or ``None`` if it is not here, or is damaged."""
        ...

    def keep(self, resolved: ResolvedVersion) -> None:
        """Keep a version, if there is room; never fails."""
        ...


class VolatileMemory:
    """Implements :class:`Memory` for a mount that nobody can take over."""

    def __init__(self) -> None:
        """Remember nothing yet."""
        self._records: list[dict[str, Any]] = []

    def records(self) -> list[dict[str, Any]]:
        """Return all records."""
        return list(self._records)

    def append(self, record: dict[str, Any]) -> None:
        """Add a record."""
        self._records.append(record)


class NoVersions:
    """Implements :class:`Versions` where the cluster must do."""

    def find(self, name: DatasetName, version: VersionId) -> ResolvedVersion | None:  # noqa: ARG002
        """Find nothing."""
        return None

    def keep(self, resolved: ResolvedVersion) -> None:
        """Keep nothing."""


class VersionFolder:
    """Implements :class:`Versions` with a file for each, in a folder of the mount's own."""

    def __init__(self, folder: Path) -> None:
        """Make the folder if need be; what is in it already is found."""
        self._folder = folder
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def find(self, name: DatasetName, version: VersionId) -> ResolvedVersion | None:
        """Return a version; the manifest's id proves that the file is whole."""
        try:
            head, _, encoded = self._path(name, version).read_bytes().partition(b"\n")
            return decode_version(head).with_manifest(Manifest.decode(encoded, version))
        except (OSError, ValueError, KeyError, TypeError, CacheFSError):
            return None

    def keep(self, resolved: ResolvedVersion) -> None:
        """Write a version beside its place, then put it there."""
        path = self._path(resolved.dataset, resolved.manifest.id)
        if path.exists():
            return
        partial = path.with_suffix(".partial")
        try:
            partial.write_bytes(encode_version(resolved) + b"\n" + resolved.manifest.encoded)
            partial.replace(path)
        except OSError as error:
            # Only a successor that finds nobody to ask would miss it.
            _log.warning("cannot keep a manifest", extra={"failure": str(error)})

    def _path(self, name: DatasetName, version: VersionId) -> Path:
        return self._folder / f"{name.namespace}+{name.name}+{version}"
