"""``migrate``: files of one place are at another, and compare equal.

Between two origins, and out of a dataset, this process copies (:mod:`cachefs.dataflow.copying`). *Into* a
dataset nothing is copied here: the source becomes a version of the dataset, and its workers fill what is
wanted from it, each byte once, as a ``prefetch`` has them do. With ``current``, new opens see it then, and
not before.
"""

from collections.abc import Mapping
from dataclasses import replace

from cachefs.core.datasets import OriginSpec
from cachefs.core.globs import Globs
from cachefs.core.manifest import VersionId
from cachefs.core.names import DatasetName
from cachefs.dataflow.copying.carrying import Carrier
from cachefs.dataflow.copying.ends import Sites, Wanted, spec_of
from cachefs.dataflow.ports import Cache, Observed, StepContext, StepKind
from cachefs.dataflow.records import Progress
from cachefs.dataflow.spec import kinds
from cachefs.dataflow.spec.arguments import DeleteCopies, Migrate
from cachefs.dataflow.spec.model import Value
from cachefs.dataflow.spec.shapes import DatasetRef
from cachefs.dataflow.steps import publishing
from cachefs.dataflow.steps.choosing import name_of
from cachefs.dataflow.steps.prefetching import PrefetchStep
from cachefs.errors import NotKnownError

_PUBLISHED = "published"
"""In the checkpoint: the id of the version that the source became."""


class MigrateStep(StepKind):
    """Done when every file is there, as it was read."""

    def __init__(self, cache: Cache, sites: Sites) -> None:
        """Copy between origins and datasets of a cache."""
        self._cache = cache
        self._carrier = Carrier(sites)
        self._prefetch = PrefetchStep(cache)

    def observe(self, context: StepContext, arguments: Mapping[str, Value]) -> Observed:
        """Compare what both ends list with what was noted; or what workers hold, for a dataset."""
        given: Migrate = kinds.check("migrate", arguments)
        if given.to.dataset is None:
            return self._carrier.observe(context, Wanted.of_migrate(given), given.parallel)
        published = context.checkpoint().get(_PUBLISHED)
        if published is None:
            return Observed(done=False, progress=Progress(note="not listed yet"))
        filled = self._as_prefetch(context, given, str(published))
        observed = self._prefetch.observe(context, filled)
        if observed.done and given.current:
            name = name_of(context, given.to.dataset)
            if not publishing.is_current(self._cache, name, VersionId(str(published))):
                return replace(observed, done=False, outputs={})
        return observed

    def apply(self, context: StepContext, arguments: Mapping[str, Value]) -> None:
        """Copy; or publish, and have it filled."""
        given: Migrate = kinds.check("migrate", arguments)
        if given.to.dataset is None:
            self._carrier.carry(
                context,
                Wanted.of_migrate(given),
                verify=given.verify,
                parallel=given.parallel,
                rate=given.rate,
            )
            return
        published = self._publish(context, given, given.to.dataset)
        filled = self._as_prefetch(context, given, published)
        if not self._prefetch.observe(context, filled).done:
            self._prefetch.apply(context, filled)
        if given.current and self._prefetch.observe(context, filled).done:
            name = name_of(context, given.to.dataset)
            publishing.make_current(self._cache, context, name, published)

    def compensate(
        self, context: StepContext, arguments: Mapping[str, Value], how: Mapping[str, Value]
    ) -> None:
        """Delete what this step wrote, if it says so; out of a dataset, drop it from the workers.

        What was current before is so again, also if nothing is deleted.
        """
        back: DeleteCopies = kinds.check_compensation("migrate", how)
        given: Migrate = kinds.check("migrate", arguments)
        to, published = given.to.dataset, context.checkpoint().get(_PUBLISHED)
        if to is not None and published is not None and given.current:
            publishing.go_back(
                self._cache, context, name_of(context, to), VersionId(str(published))
            )
        if not back.delete:
            return
        if to is None:
            self._carrier.delete(context, Wanted.of_migrate(given))
        elif published is not None:
            filled = self._as_prefetch(context, given, str(published))
            self._prefetch.compensate(context, filled, {"evict": True})

    def _publish(self, context: StepContext, given: Migrate, to: DatasetRef) -> VersionId:
        """Make the source a version of the dataset; return its id."""
        spec = self._source_spec(context, given)
        published = self._cache.publish(
            name_of(context, to), spec.url, spec.options, label=to.version or ""
        )
        version = published.manifest.id
        if context.checkpoint().get(_PUBLISHED) != version:
            context.note({**context.checkpoint(), _PUBLISHED: version})
        return version

    def _source_spec(self, context: StepContext, given: Migrate) -> OriginSpec:
        source = given.from_.dataset
        if source is None:
            return spec_of(given, "from")
        # Of a dataset, the origin: its workers fill from there, as those of the other do.
        return self._cache.resolve(name_of(context, source), source.version).origin

    def _as_prefetch(
        self, context: StepContext, given: Migrate, version: str
    ) -> Mapping[str, Value]:
        """Return the ``prefetch`` that fills what is wanted of a version."""
        to = given.to.dataset
        name = DatasetName(context.namespace, "") if to is None else name_of(context, to)
        wanted: dict[str, Value] = {"dataset": f"{name}@{version}"}
        if given.include or given.exclude:
            chosen = Globs(given.include, given.exclude)
            files = self._cache.resolve(name, version).manifest.files
            paths = [_literal(entry.path) for entry in files if chosen.select(entry.path)]
            if not paths:
                raise NotKnownError("no file matches", hint="see include and exclude")
            wanted["paths"] = paths
        if given.zone:
            wanted["zone"] = given.zone
        if given.rate:
            wanted["rate"] = f"{given.rate}B/s"
        return wanted


def _literal(path: str) -> str:
    """Return a glob that matches one path."""
    return "/" + "".join(f"\\{one}" if one in "*?[]\\" else one for one in path)
