"""``evict``: files of a dataset are gone from the workers."""

from collections.abc import Mapping

from cachefs.dataflow.ports import Cache, Observed, StepContext, StepKind
from cachefs.dataflow.records import Progress
from cachefs.dataflow.spec import kinds
from cachefs.dataflow.spec.arguments import Evict
from cachefs.dataflow.spec.model import Value
from cachefs.dataflow.steps.choosing import choose, own_paths, pin


class EvictStep(StepKind):
    """Done when no worker holds any of it.

    A file stays that the dataset's current version has too, or one with a label.
    """

    def __init__(self, cache: Cache) -> None:
        """Evict from a cache."""
        self._cache = cache

    def observe(self, context: StepContext, arguments: Mapping[str, Value]) -> Observed:
        """Look for what is left."""
        wanted: Evict = kinds.check("evict", arguments)
        files = choose(self._cache, context, wanted.dataset, wanted.paths)
        paths = own_paths(self._cache, files)
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
        paths = own_paths(self._cache, files)
        if paths:
            size = self._cache.evict(files.name, files.version, paths)
            context.tell(f"{size} bytes of {files.name} were evicted")

    def compensate(
        self, context: StepContext, arguments: Mapping[str, Value], how: Mapping[str, Value]
    ) -> None:
        """What was evicted comes back when it is read."""
