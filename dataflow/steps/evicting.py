"""``evict``: files of a dataset are gone from the workers."""

from collections.abc import Mapping

from cachefs.core.manifest import FileEntry
from cachefs.dataflow.ports import Cache, Observed, StepContext, StepKind
from cachefs.dataflow.records import Progress
from cachefs.dataflow.spec import kinds
from cachefs.dataflow.spec.arguments import Evict
from cachefs.dataflow.spec.model import Value
from cachefs.dataflow.steps.choosing import FilesOf, choose, pin


class EvictStep(StepKind):
    """Done when no worker holds any of it.

    A file that the dataset's current version has too stays: to evict v1 must cost v2 nothing.
    """

    def __init__(self, cache: Cache) -> None:
        """Evict from a cache."""
        self._cache = cache

    def observe(self, context: StepContext, arguments: Mapping[str, Value]) -> Observed:
        """Look for what is left."""
        wanted: Evict = kinds.check("evict", arguments)
        files = choose(self._cache, context, wanted.dataset, wanted.paths)
        paths = [entry.path for entry in self._own(files)]
        if not paths:
            return Observed(done=True, outputs={"version": files.version})
        left = self._cache.residency(files.name, files.version, paths)
        gone = left.bytes_total - left.bytes_resident
        progress = Progress(done=gone, total=left.bytes_total)
        return Observed(left.bytes_resident == 0, progress, {"version": files.version})

    def apply(self, context: StepContext, arguments: Mapping[str, Value]) -> None:
        """Evict; the machine has let it wait before."""
        wanted: Evict = kinds.check("evict", arguments)
        files = choose(self._cache, context, wanted.dataset, wanted.paths)
        pin(context, wanted.dataset, files.version)
        paths = [entry.path for entry in self._own(files)]
        if paths:
            size = self._cache.evict(files.name, files.version, paths)
            context.tell(f"{size} bytes of {files.name} were evicted")

    def compensate(
        self, context: StepContext, arguments: Mapping[str, Value], how: Mapping[str, Value]
    ) -> None:
        """What was evicted comes back when it is read."""

    def _own(self, files: FilesOf) -> list[FileEntry]:
        current = self._cache.resolve(files.name, None)
        if current.manifest.id == files.version:
            return list(files.files)
        kept = {entry.file_version for entry in current.manifest.files}
        return [entry for entry in files.files if entry.file_version not in kept]
