"""What steps name: which dataset, at which version, which of its files."""

from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

from cachefs.core.globs import Globs
from cachefs.core.manifest import FileEntry, Manifest, VersionId
from cachefs.core.names import DatasetName
from cachefs.dataflow.ports import Cache, StepContext
from cachefs.dataflow.spec.shapes import DatasetRef
from cachefs.errors import NotKnownError
from cachefs.ports import ResolvedVersion

_LOOKS = 8


class FilesOf(NamedTuple):
    """Files of a version, and how they are kept."""

    resolved: ResolvedVersion
    files: tuple[FileEntry, ...]

    @property
    def name(self) -> DatasetName:
        """The dataset."""
        return self.resolved.dataset

    @property
    def version(self) -> VersionId:
        """The version's id."""
        return self.resolved.manifest.id

    @property
    def paths(self) -> tuple[str, ...]:
        """Their paths."""
        return tuple(entry.path for entry in self.files)

    @property
    def size(self) -> int:
        """Their bytes."""
        return sum(entry.size for entry in self.files)


def name_of(context: StepContext, dataset: DatasetRef) -> DatasetName:
    """Return the full name of what a flow names; without a namespace it is in the flow's."""
    return DatasetName(dataset.namespace or context.namespace, dataset.name)


def choose(
    cache: Cache, context: StepContext, dataset: DatasetRef, globs: Sequence[str]
) -> FilesOf:
    """Return the files that a step is about.

    What is current when a step begins stays what it means, through retries and other processes: the
    version is looked up in the checkpoint first.

    Raises:
        NotKnownError: There is no such dataset, version, or file.
    """
    name = name_of(context, dataset)
    pinned = context.checkpoint().get(_key(name, dataset))
    resolved = cache.resolve(name, dataset.version if pinned is None else str(pinned))
    return FilesOf(resolved, matching(resolved.manifest, globs))


def own_paths(cache: Cache, files: FilesOf) -> tuple[str, ...]:
    """Return the paths of those files that no other version has which somebody may want.

    These are the current version, and those with labels: to evict v1 must cost v2 nothing, nor the other
    way round.
    """
    others = {*cache.labelled(files.name), cache.resolve(files.name, None).manifest.id}
    kept = {
        entry.file_version
        for version in others - {files.version}
        for entry in cache.resolve(files.name, version).manifest.files
    }
    return tuple(entry.path for entry in files.files if entry.file_version not in kept)


def matching(manifest: Manifest, globs: Sequence[str]) -> tuple[FileEntry, ...]:
    """Return the files of a version that match one of some globs; all, if there are none.

    Raises:
        NotKnownError: No file does.
    """
    chosen = Globs(globs)
    files = tuple(entry for entry in manifest.files if chosen.select(entry.path))
    if not files and manifest.files:
        raise NotKnownError("no file matches", hint=", ".join(globs))
    return files


def pin(context: StepContext, dataset: DatasetRef, version: VersionId) -> None:
    """Have :func:`choose` return the same version from now on."""
    key = _key(name_of(context, dataset), dataset)
    if context.checkpoint().get(key) != version:
        context.note({**context.checkpoint(), key: version})


def _key(name: DatasetName, dataset: DatasetRef) -> str:
    return f"version of {name}@{dataset.version or ''}"


class Rate:
    """Units a second, over the last few looks."""

    def __init__(self) -> None:
        """Have seen nothing yet."""
        self._seen: deque[tuple[float, float]] = deque(maxlen=_LOOKS)

    def note(self, at: float, done: float) -> float:
        """Take note of how far it is; return the rate."""
        self._seen.append((at, done))
        (first_at, first), (last_at, last) = self._seen[0], self._seen[-1]
        return max(0.0, last - first) / (last_at - first_at) if last_at > first_at else 0.0
