"""Knowledge: what a worker knows of datasets, members and digests, while the coordinator is down too.

It implements :class:`cachefs.ports.WorkerMetadata` for the worker's own fills, and it is what the data
plane answers metadata requests from. The view comes with each renewal and is never asked for. A
version cannot change, so what was resolved once is kept, in memory and in the worker's state folder;
a worker that starts while the coordinator is down can serve what is on its tiers.

Who is asked for a version that is not known here: the coordinator, and after it, for a request for
*bytes* only, the other workers. Requests for metadata are never passed on to other workers: two
that ask each other would go on until their deadlines.
"""

import json
import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from cachefs.core.blocks import FileVersionId
from cachefs.core.manifest import FileEntry, Manifest, VersionId
from cachefs.core.membership import EMPTY_VIEW, View
from cachefs.core.names import DatasetName, WorkerId
from cachefs.errors import CacheFSError, CoordinatorUnavailableError, NotKnownError
from cachefs.ports import FileRef, ResolvedVersion, Runtime, WorkerMetadata
from cachefs.wire.http import VersionHead, decode_version, encode_version
from cachefs.workers.proving.proofs import Proofs

VERSIONS_LIMIT = 16
"""Versions kept; a manifest of 100,000 files takes some 50 MB as objects."""
DIGESTS_LIMIT = 4096
"""File versions whose digests and holders are kept."""
DIGESTS_SECONDS = 2.0
"""Before a missing digest is asked for again."""
HOLDERS_SECONDS = 1.0
"""Workers report what they hold as often."""
SILENCE_SECONDS = 1.0
"""A coordinator that did not answer is not asked for so long by fills, which can do without."""

_VERSION_ID_LENGTH = 40

AskMembers = Callable[[DatasetName, str | None, float], ResolvedVersion]
"""Asks the other workers for a version, until a deadline; raises as ``Metadata.resolve`` does."""

_log = logging.getLogger("cachefs.worker")


class Knowledge:
    """Implements :class:`cachefs.ports.WorkerMetadata` from memory first. Safe from any thread."""

    def __init__(
        self,
        runtime: Runtime,
        coordinator: WorkerMetadata,
        *,
        ask_members: AskMembers | None = None,
        folder: Path | None = None,
        proofs: Proofs | None = None,
    ) -> None:
        """Begin with what the folder holds.

        Args:
            runtime: For its clock.
            coordinator: Asked for what is not known.
            ask_members: Asks when the coordinator does not answer, for a block's bytes only.
            folder: Where versions are kept over restarts.
            proofs: Where the digests of proven files are.
        """
        self._runtime = runtime
        self._coordinator = coordinator
        self._ask_members = ask_members
        self._folder = folder
        self._proofs = proofs
        self._lock = threading.Lock()
        self._view = EMPTY_VIEW
        self._versions: OrderedDict[tuple[DatasetName, VersionId], ResolvedVersion] = OrderedDict()
        self._current: dict[DatasetName, VersionId] = {}
        self._digests: OrderedDict[FileVersionId, tuple[Sequence[bytes | None], float]] = (
            OrderedDict()
        )
        self._holders: OrderedDict[FileVersionId, tuple[Mapping[WorkerId, int], float]] = (
            OrderedDict()
        )
        self._silent_until = 0.0
        if folder is not None:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._load(folder)

    def observe(self, view: View) -> None:
        """Take note of a newer view."""
        with self._lock:
            if view.epoch >= self._view.epoch or not self._view.members:
                self._view = view

    def replace_view(self, view: View) -> None:
        """Take a view whatever its epoch: the coordinator whom we register with may be a new one."""
        with self._lock:
            self._view = view

    def view(self, *, deadline: float) -> View:  # noqa: ARG002 - a port's signature
        """Return the last view; does not wait."""
        return self._view

    def resolve(
        self, name: DatasetName, version: str | None, *, deadline: float
    ) -> ResolvedVersion:
        """Return a version from memory, from the coordinator, or from another worker."""
        try:
            return self.resolve_here(name, version, deadline=deadline)
        except CoordinatorUnavailableError:
            if self._ask_members is None:
                raise
            resolved = self._ask_members(name, version, deadline)
            self._keep(resolved)
            return resolved

    def resolve_here(
        self, name: DatasetName, version: str | None, *, deadline: float
    ) -> ResolvedVersion:
        """Return a version without asking another worker."""
        if version is not None and len(version) == _VERSION_ID_LENGTH:
            known = self._known(name, VersionId(version))
            if known is not None:
                return known
        try:
            resolved = self._coordinator.resolve(name, version, deadline=deadline)
        except CoordinatorUnavailableError:
            resolved_before = self._resolve_from_memory(name, version)
            if resolved_before is None:
                raise
            return resolved_before
        self._keep(resolved)
        if version is None:
            with self._lock:
                self._current[name] = resolved.manifest.id
        return resolved

    def _known(self, name: DatasetName, version: VersionId) -> ResolvedVersion | None:
        with self._lock:
            known = self._versions.get((name, version))
            if known is not None:
                self._versions.move_to_end((name, version))
            return known

    def _resolve_from_memory(
        self, name: DatasetName, version: str | None
    ) -> ResolvedVersion | None:
        with self._lock:
            ids = [known for dataset, known in self._versions if dataset == name]
            if version is None:
                # The last one that was used, if nobody asked for the current one here before.
                wanted = self._current.get(name) or (ids[-1] if ids else None)
                matching = [known for known in ids if known == wanted]
            else:
                matching = [known for known in ids if known.startswith(version)]
            return self._versions[name, matching[0]] if len(matching) == 1 else None

    def _keep(self, resolved: ResolvedVersion) -> None:
        key = (resolved.dataset, resolved.manifest.id)
        dropped: list[tuple[DatasetName, VersionId]] = []
        with self._lock:
            is_new = key not in self._versions
            self._versions[key] = resolved
            self._versions.move_to_end(key)
            while len(self._versions) > VERSIONS_LIMIT:
                dropped.append(self._versions.popitem(last=False)[0])
        if self._folder is not None and is_new:
            self._write(self._folder, resolved)
            for dataset, version in dropped:
                self._path(self._folder, dataset, version).unlink(missing_ok=True)

    def file(
        self, name: DatasetName, version: VersionId, file_version: FileVersionId, *, deadline: float
    ) -> FileRef:
        """Return the file version that a request for bytes names.

        Raises:
            NotKnownError: The version has no such file.
            CoordinatorUnavailableError: Nobody could say.
        """
        resolved = self.resolve(name, version, deadline=deadline)
        entry = resolved.manifest.by_file_version.get(file_version)
        if entry is None:
            raise NotKnownError("the version has no such file", subject=file_version)
        return resolved.file(entry)

    def manifest(self, version: VersionId, name: DatasetName | None = None) -> Manifest:
        """Return a manifest that was used here before.

        Args:
            version: Its id.
            name: The dataset that it must be a version of; any for ``None``.

        Raises:
            NotKnownError: It was not, or it is another dataset's.
        """
        with self._lock:
            for (dataset, known), resolved in self._versions.items():
                if known == version and name in (None, dataset):
                    return resolved.manifest
        raise NotKnownError("no such version here", subject=version)

    def known_file(self, file_version: FileVersionId) -> FileRef | None:
        """Return a file version of any dataset that was used here before."""
        with self._lock:
            resolved_versions = list(self._versions.values())
        for resolved in reversed(resolved_versions):
            entry: FileEntry | None = resolved.manifest.by_file_version.get(file_version)
            if entry is not None:
                return resolved.file(entry)
        return None

    def digests(self, file: FileRef, *, deadline: float) -> Sequence[bytes | None]:
        """Return the known digests of a file's blocks; what is known never changes."""
        file_version = file.entry.file_version
        proof = self._proofs.find(file) if self._proofs and file.entry.digest else None
        if proof is not None:
            return proof
        now = self._runtime.monotonic()
        with self._lock:
            known, asked_at = self._digests.get(file_version, ((), -DIGESTS_SECONDS))
            if (known and all(known)) or now - asked_at < DIGESTS_SECONDS:
                return known
            silent = now < self._silent_until
        if silent:
            raise CoordinatorUnavailableError("the coordinator did not answer a moment ago")
        try:
            digests = self._coordinator.digests(file, deadline=deadline)
        except CoordinatorUnavailableError:
            with self._lock:
                self._silent_until = self._runtime.monotonic() + SILENCE_SECONDS
            if known:
                return known
            raise
        with self._lock:
            self._digests[file_version] = (digests, now)
            self._digests.move_to_end(file_version)
            if len(self._digests) > DIGESTS_LIMIT:
                self._digests.popitem(last=False)
        return digests

    def holders(self, file: FileRef, *, deadline: float) -> Mapping[WorkerId, int]:
        """Return who holds which blocks of a file, by what the coordinator has heard."""
        file_version = file.entry.file_version
        now = self._runtime.monotonic()
        with self._lock:
            known, asked_at = self._holders.get(file_version, ({}, -HOLDERS_SECONDS))
            if now - asked_at < HOLDERS_SECONDS:
                return known
            silent = now < self._silent_until
        if silent:
            raise CoordinatorUnavailableError("the coordinator did not answer a moment ago")
        try:
            known = self._coordinator.holders(file, deadline=deadline)
        except CoordinatorUnavailableError:
            with self._lock:
                self._silent_until = self._runtime.monotonic() + SILENCE_SECONDS
            raise
        with self._lock:
            self._holders[file_version] = (known, now)
            self._holders.move_to_end(file_version)
            if len(self._holders) > DIGESTS_LIMIT:
                self._holders.popitem(last=False)
        return known

    @staticmethod
    def _path(folder: Path, dataset: DatasetName, version: VersionId) -> Path:
        return folder / f"{dataset.namespace}+{dataset.name}+{version}"

    def _write(self, folder: Path, resolved: ResolvedVersion) -> None:
        path = self._path(folder, resolved.dataset, resolved.manifest.id)
        partial = path.with_suffix(".partial")
        try:
            partial.write_bytes(encode_version(resolved) + b"\n" + resolved.manifest.encoded)
            partial.replace(path)
        except OSError as error:
            # Only a start without a coordinator would miss it.
            _log.warning("cannot keep a version", extra={"failure": str(error)})

    def _load(self, folder: Path) -> None:
        paths = sorted(folder.iterdir(), key=lambda path: path.stat().st_mtime)
        for path in paths[-VERSIONS_LIMIT:]:
            try:
                encoded_head, _, encoded = path.read_bytes().partition(b"\n")
                head: VersionHead = decode_version(encoded_head)
                resolved = head.with_manifest(Manifest.decode(encoded, head.version))
            except (OSError, ValueError, KeyError, TypeError, CacheFSError, json.JSONDecodeError):
                # Whatever is wrong with it, the coordinator has it.
                path.unlink(missing_ok=True)
                continue
            self._versions[resolved.dataset, resolved.manifest.id] = resolved
