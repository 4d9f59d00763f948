"""``scale``: a pool has so many workers."""

from collections.abc import Mapping
from typing import Any

from cachefs.dataflow.ports import Cache, Observed, PoolStatus, StepContext, StepKind
from cachefs.dataflow.records import Progress
from cachefs.dataflow.spec import kinds
from cachefs.dataflow.spec.arguments import Scale, ScaleBack
from cachefs.dataflow.spec.model import Value
from cachefs.dataflow.steps.choosing import name_of
from cachefs.errors import ConfigError

_LOOK_SECONDS = 0.5
_BEFORE = "before"
"""In the checkpoint: what was wanted when the step first began."""


class ScaleStep(StepKind):
    """Done when so many are live, and whoever had to leave has handed over and left."""

    def __init__(self, cache: Cache) -> None:
        """Scale pools of a cache."""
        self._cache = cache

    def observe(self, context: StepContext, arguments: Mapping[str, Value]) -> Observed:
        """Compare the pool with what it shall be."""
        wanted: Scale = kinds.check("scale", arguments)
        pool = self._cache.pool(self._pool(context, wanted))
        return _observed(pool, wanted.workers, self._by_zone(wanted, pool))

    def apply(self, context: StepContext, arguments: Mapping[str, Value]) -> None:
        """Say what is wanted, and wait for it."""
        wanted: Scale = kinds.check("scale", arguments)
        pool = self._cache.pool(self._pool(context, wanted))
        if _BEFORE not in context.checkpoint():
            before = {
                "workers": pool.live if pool.wanted is None else pool.wanted,
                "by_zone": dict(pool.wanted_by_zone),
            }
            context.note({**context.checkpoint(), _BEFORE: before})
        self._scale(context, pool.name, wanted.workers, self._by_zone(wanted, pool))

    def compensate(
        self, context: StepContext, arguments: Mapping[str, Value], how: Mapping[str, Value]
    ) -> None:
        """Have as many as before the step, or as many as it says."""
        back: ScaleBack = kinds.check_compensation("scale", how)
        before: dict[str, Any] | None = context.checkpoint().get(_BEFORE)
        pool = self._pool(context, kinds.check("scale", arguments))
        if back.workers is not None:
            self._scale(context, pool, back.workers, {})
        elif before is not None:
            self._scale(context, pool, before["workers"], before["by_zone"])

    def _pool(self, context: StepContext, wanted: Scale) -> str:
        if wanted.dataset is None:
            return wanted.pool
        return self._cache.pool_of(name_of(context, wanted.dataset))

    def _by_zone(self, wanted: Scale, pool: PoolStatus) -> dict[str, int]:
        if not wanted.per_zone or not wanted.workers:
            return {}
        zones = wanted.zones or sorted({*pool.wanted_by_zone, *pool.live_by_zone} - {""})
        if not zones:
            raise ConfigError(
                "nobody knows which zones there are", subject=pool.name, hint="write zones: [a, b]"
            )
        if wanted.per_zone * len(zones) > wanted.workers:
            raise ConfigError(
                f"{wanted.per_zone} in each of {len(zones)} zones are more than {wanted.workers}",
                subject=pool.name,
            )
        return dict.fromkeys(zones, wanted.per_zone)

    def _scale(
        self, context: StepContext, pool: str, workers: int, by_zone: Mapping[str, int]
    ) -> None:
        self._cache.scale(pool, workers, by_zone=by_zone)
        while True:
            observed = _observed(self._cache.pool(pool), workers, by_zone)
            context.report(observed.progress)
            if observed.done:
                return
            context.sleep(_LOOK_SECONDS)


def _observed(pool: PoolStatus, workers: int, by_zone: Mapping[str, int]) -> Observed:
    enough = all(pool.live_by_zone.get(zone, 0) >= count for zone, count in by_zone.items())
    done = pool.wanted == workers == pool.live and not pool.draining and enough
    leaving = f"{pool.draining} are handing over" if pool.draining else ""
    progress = Progress(done=pool.live, total=workers, unit="workers", note=leaving)
    return Observed(done, progress, {"pool": pool.name, "workers": pool.live} if done else {})
