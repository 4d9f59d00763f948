"""The planner: what a run would take, and whether that may be."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from cachefs.config.schema import PlanningConfig
from cachefs.dataflow.copying.plans import CopySizes
from cachefs.dataflow.engine.answers import Planned
from cachefs.dataflow.planning.estimating import Estimator, MeasureCopy
from cachefs.dataflow.planning.walking import Walk, WalkedStep, walk
from cachefs.dataflow.ports import Cache
from cachefs.dataflow.spec.arguments import Backup, Migrate
from cachefs.dataflow.spec.model import Budget, Flow, Value
from cachefs.dataflow.spec.names import PLAN_NAMES

_PLAN = re.compile(r"\bplan\b")


@dataclass(frozen=True, slots=True)
class _Totals:
    """Of a whole run."""

    origin_bytes: int
    peer_bytes: int
    bytes_total: int
    bytes_cached: int
    egress_usd: float
    seconds: float

    @classmethod
    def of(cls, walked: Walk) -> "_Totals":
        found = [step.estimate for step in walked.steps]
        return cls(
            origin_bytes=sum(one.origin_bytes for one in found),
            peer_bytes=sum(one.peer_bytes for one in found),
            bytes_total=sum(one.bytes_total for one in found),
            bytes_cached=sum(one.bytes_cached for one in found),
            egress_usd=sum(one.egress_usd for one in found),
            seconds=walked.seconds,
        )

    def names(self) -> dict[str, Value]:
        return {name: getattr(self, name) for name in PLAN_NAMES}


class CachePlanner:
    """Plans runs on a cache as it is now."""

    def __init__(self, cache: Cache, rates: PlanningConfig, measure: MeasureCopy) -> None:
        """Ask a cache, reckon with configured rates, and measure copies by listing their ends."""
        self._cache = cache
        self._rates = rates
        self._measure = measure

    def plan(self, flow: Flow, params: Mapping[str, Value]) -> Planned:
        """Say what a run would take; changes nothing.

        Raises:
            CacheFSError: That cannot be known now.
        """
        nothing: Mapping[str, Value] = dict.fromkeys(PLAN_NAMES, 0)
        measure = _once(self._measure)
        walked = self._walk(flow, params, measure, plan=nothing)
        totals = _Totals.of(walked)
        if _asks_the_plan(flow):
            # Steps may depend on what the plan says: a second pass knows what the first has found.
            walked = self._walk(flow, params, measure, plan=totals.names())
            totals = _Totals.of(walked)
        refusals = [
            f"{step.id}: {step.estimate.refusal}" for step in walked.steps if step.estimate.refusal
        ]
        refusals += _over(flow.budget, totals)
        return Planned(totals.names(), _document(walked, totals), tuple(refusals))

    def _walk(
        self,
        flow: Flow,
        params: Mapping[str, Value],
        measure: MeasureCopy,
        *,
        plan: Mapping[str, Value],
    ) -> Walk:
        estimator = Estimator(self._cache, self._rates, flow.namespace, measure)
        return walk(flow, params, estimator.estimate, plan=plan)


def _asks_the_plan(flow: Flow) -> bool:
    """Say whether an expression of a flow may ask ``plan.…``; of other texts with the word, too."""
    return any(
        _PLAN.search(text)
        for step in (*flow.steps, *flow.finally_)
        for text in (
            step.condition,
            *_texts(step.arguments),
            *_texts(step.foreach.values if step.foreach is not None else None),
        )
    )


def _texts(value: Value) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for one in value.values():
            yield from _texts(one)
    elif isinstance(value, list | tuple):
        for one in value:
            yield from _texts(one)


def _once(measure: MeasureCopy) -> MeasureCopy:
    """Have the second pass not list again what the first has listed."""
    known: dict[tuple[str, str], CopySizes] = {}

    def ask(namespace: str, wanted: Migrate | Backup) -> CopySizes:
        key = (namespace, repr(wanted))
        if key not in known:
            known[key] = measure(namespace, wanted)
        return known[key]

    return ask


def _over(budget: Budget, totals: _Totals) -> list[str]:
    found = []
    if budget.origin_bytes is not None and totals.origin_bytes > budget.origin_bytes:
        found.append(
            f"{totals.origin_bytes} bytes of the origin are over the budget of {budget.origin_bytes}"
        )
    if budget.egress_usd is not None and totals.egress_usd > budget.egress_usd:
        found.append(
            f"{totals.egress_usd:.2f} USD of egress are over the budget of {budget.egress_usd:.2f}"
        )
    if budget.wall_seconds is not None and totals.seconds > budget.wall_seconds:
        found.append(
            f"{totals.seconds:.0f} s at least are over the budget of {budget.wall_seconds:.0f} s"
        )
    return found


def _document(walked: Walk, totals: _Totals) -> Mapping[str, Value]:
    unknown = [step.id for step in walked.steps if step.estimate.seconds is None]
    return {
        "seconds": totals.seconds,
        "seconds_unknown": unknown,
        "critical_path": list(walked.critical_path),
        "bytes_total": totals.bytes_total,
        "bytes_cached": totals.bytes_cached,
        "origin_bytes": totals.origin_bytes,
        "peer_bytes": totals.peer_bytes,
        "egress_usd": totals.egress_usd,
        "bytes_by_zone": _sum_by(walked, "zone"),
        "bytes_by_tier": _sum_by(walked, "tier"),
        "steps": [_step(step) for step in walked.steps],
        "skipped": dict(walked.skipped),
    }


def _step(step: WalkedStep) -> Mapping[str, Value]:
    found = step.estimate
    return {
        "id": step.id,
        "kind": step.kind,
        "begins": step.begins,
        "seconds": step.seconds,
        "bytes_total": found.bytes_total,
        "bytes_cached": found.bytes_cached,
        "origin_bytes": found.origin_bytes,
        "peer_bytes": found.peer_bytes,
        "egress_usd": found.egress_usd,
        "zone": found.zone,
        "tier": found.tier,
        "note": found.note or found.refusal,
    }


def _sum_by(walked: Walk, field: str) -> dict[str, int]:
    sums: dict[str, int] = {}
    for step in walked.steps:
        moved = step.estimate.origin_bytes + step.estimate.peer_bytes
        if moved:
            key = getattr(step.estimate, field) or "any"
            sums[key] = sums.get(key, 0) + moved
    return sums
