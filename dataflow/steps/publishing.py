"""``publish``: new opens see a version of a dataset from now on.

What is open stays at its version, and mounts that do not follow stay at theirs. The version that was
current before is noted, so that to undo the step means to go back to it; but only if nobody has published
another one since: what came later is not ours to undo.
"""

from collections.abc import Mapping

from cachefs.core.manifest import VersionId
from cachefs.core.names import DatasetName
from cachefs.dataflow.ports import Cache, Observed, StepContext, StepKind
from cachefs.dataflow.spec import kinds
from cachefs.dataflow.spec.arguments import GoBack, Publish
from cachefs.dataflow.spec.model import Value
from cachefs.dataflow.steps.choosing import choose, pin

_BEFORE = "current before"
"""In the checkpoint: the id of the version that was current when the step first changed that."""


class PublishStep(StepKind):
    """Done when the version is the current one."""

    def __init__(self, cache: Cache) -> None:
        """Publish versions of a cache's datasets."""
        self._cache = cache

    def observe(self, context: StepContext, arguments: Mapping[str, Value]) -> Observed:
        """Look which version is current."""
        wanted: Publish = kinds.check("publish", arguments)
        files = choose(self._cache, context, wanted.dataset, ())
        outputs = {
            "dataset": str(files.name),
            "version": files.version,
            "before": context.checkpoint().get(_BEFORE, ""),
        }
        done = is_current(self._cache, files.name, files.version)
        return Observed(done, outputs=outputs if done else {})

    def apply(self, context: StepContext, arguments: Mapping[str, Value]) -> None:
        """Make it current."""
        wanted: Publish = kinds.check("publish", arguments)
        files = choose(self._cache, context, wanted.dataset, ())
        pin(context, wanted.dataset, files.version)
        make_current(self._cache, context, files.name, files.version)

    def compensate(
        self, context: StepContext, arguments: Mapping[str, Value], how: Mapping[str, Value]
    ) -> None:
        """Go back to the version before, or to one that is named."""
        back: GoBack = kinds.check_compensation("publish", how)
        wanted: Publish = kinds.check("publish", arguments)
        files = choose(self._cache, context, wanted.dataset, ())
        go_back(self._cache, context, files.name, files.version, to=back.version)


def is_current(cache: Cache, name: DatasetName, version: VersionId) -> bool:
    """Say whether a version is what new opens see."""
    return cache.resolve(name, None).manifest.id == version


def make_current(cache: Cache, context: StepContext, name: DatasetName, version: VersionId) -> None:
    """Have new opens see a version, and note what they saw before.

    Raises:
        ConfigError: The dataset follows its origin.
    """
    before = cache.resolve(name, None).manifest.id
    if before == version:
        return
    if _BEFORE not in context.checkpoint():
        context.note({**context.checkpoint(), _BEFORE: before})
    cache.make_current(name, version)
    context.tell(f"{name} is at version {version} now")


def go_back(
    cache: Cache, context: StepContext, name: DatasetName, version: VersionId, *, to: str = ""
) -> None:
    """Undo :func:`make_current`, unless another version was published since.

    Args:
        cache: The cache.
        context: Of the step that published, or that undoes it.
        name: The dataset.
        version: What the step has made current.
        to: Where to go; empty for what was current before.
    """
    before = str(context.checkpoint().get(_BEFORE, ""))
    if not before:
        return  # it was current anyway
    if not is_current(cache, name, version):
        context.tell(f"{name} is at another version meanwhile, and stays there")
        return
    cache.make_current(name, to or before)
    context.tell(f"{name} is back at version {to or before}")
