"""Pools: what ``kind: CachePool`` declares, parsed.

The definition is in :mod:`cachefs.k8s.crds.poolschema`; here is what an object says. How a pool follows its load has the
fields of the coordinator's policies (ELASTICITY), with shares in per cent: Kubernetes' objects have no fractions.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from cachefs.core import cron
from cachefs.errors import ConfigError
from cachefs.k8s.crds.forms import Document
from cachefs.k8s.crds.quantities import parse_duration, parse_quantity, show_seconds
from cachefs.k8s.crds.reading import Fields, fields_of

Mode = Literal["Workers", "PerNode"]
Medium = Literal["memory", "disk"]

DRAIN_SECONDS = 600.0
"""How long a worker that leaves may take to hand over, unless the pool says otherwise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TierSpec:
    """One tier of each worker."""

    medium: Medium
    size_bytes: int
    storage_class: str | None = None
    """Of the volume claim; the cluster's default for ``None``."""
    host_path: str | None = None
    """A folder of the node in place of a claim."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AutoscalingSpec:
    """How the coordinator lets a pool follow its load."""

    least: int
    most: int
    policy: Mapping[str, Any]  # Any: what JSON holds
    """As the coordinator takes it at ``PATCH /v1/policies``, below ``pools``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HorizontalSpec:
    """How a HorizontalPodAutoscaler scales a pool."""

    least: int
    most: int
    metrics: tuple[Mapping[str, Any], ...] = ()  # Any: Kubernetes' own fields
    """As ``autoscaling/v2`` has them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CachePoolSpec:
    """What an object of the kind says."""

    name: str
    namespace: str
    mode: Mode = "Workers"
    workers: int | None = None
    """``None`` where something else decides: a policy, or the nodes."""
    tiers: tuple[TierSpec, ...] = ()
    zones: tuple[str, ...] = ()
    exclusive_to: str = ""
    autoscaling: AutoscalingSpec | None = None
    horizontal: HorizontalSpec | None = None
    node_selector: Mapping[str, str] = field(default_factory=dict)
    tolerations: tuple[Mapping[str, Any], ...] = ()  # Any: Kubernetes' own fields, as below
    affinity: Mapping[str, Any] = field(default_factory=dict)
    resources: Mapping[str, Any] = field(default_factory=dict)
    priority_class: str | None = None
    drain_seconds: float = DRAIN_SECONDS

    @property
    def bounds(self) -> tuple[int, int | None]:
        """How few workers there may be, and how many; ``None`` for no bound."""
        chosen = self.autoscaling or self.horizontal
        return (0, None) if chosen is None else (chosen.least, chosen.most)

    def capacity_bytes(self, medium: Medium) -> int:
        """Return how much each worker holds in a medium."""
        return sum(tier.size_bytes for tier in self.tiers if tier.medium == medium)


def parse(document: Document) -> CachePoolSpec:
    """Return what an object of the kind says.

    Raises:
        ConfigError: It makes no sense; its subject is the field.
    """
    spec, metadata = fields_of(document, "spec"), fields_of(document, "metadata")
    mode: Mode = "PerNode" if spec.text("mode", "Workers") == "PerNode" else "Workers"
    autoscaling = spec.inner("autoscaling")
    horizontal = spec.inner("horizontalPodAutoscaler")
    workers = spec.optional_whole("workers")
    if autoscaling is not None and horizontal is not None:
        raise ConfigError("a pool has one autoscaler", subject=spec.where("autoscaling"))
    if mode == "PerNode" and not (workers is None and autoscaling is None and horizontal is None):
        raise ConfigError("the nodes say how many workers there are", subject=spec.where("mode"))
    tiers = tuple(_tier(one) for one in spec.listed("tiers"))
    if not tiers:
        raise ConfigError("workers need a tier", subject=spec.where("tiers"))
    return CachePoolSpec(
        name=metadata.needed_text("name"),
        namespace=metadata.needed_text("namespace"),
        mode=mode,
        workers=workers,
        tiers=tiers,
        zones=spec.texts("zones"),
        exclusive_to=spec.text("exclusiveTo", ""),
        autoscaling=None if autoscaling is None else _autoscaling(autoscaling),
        horizontal=None if horizontal is None else _horizontal(horizontal),
        node_selector=spec.texts_by_name("nodeSelector"),
        tolerations=spec.free_list("tolerations"),
        affinity=spec.free("affinity"),
        resources=spec.free("resources"),
        priority_class=spec.text("priorityClassName", "") or None,
        drain_seconds=_or_else(spec.optional("drainTimeout", parse_duration), DRAIN_SECONDS),
    )


def _or_else(seconds: float | None, without: float) -> float:
    return without if seconds is None else seconds


def _tier(one: Fields) -> TierSpec:
    medium = one.needed_text("medium")
    size = one.optional("size", parse_quantity)
    if not size:
        raise ConfigError("a tier has a size", subject=one.where("size"))
    for known in get_args(Medium):
        if medium == known:
            return TierSpec(
                medium=known,
                size_bytes=size,
                storage_class=one.text("storageClassName", "") or None,
                host_path=one.text("hostPath", "") or None,
            )
    raise ConfigError("a medium is memory or disk", subject=one.where("medium"))


def _autoscaling(found: Fields) -> AutoscalingSpec:
    least, most = _bounds(found, "min", "max")
    policy: dict[str, Any] = {  # Any: what JSON holds
        "least": least,
        "most": most,
        "rules": [_rule(rule) for rule in found.listed("rules")],
    }
    for name in ("cooldown", "calm"):
        seconds = found.optional(name, parse_duration)
        if seconds is not None:
            policy[name] = show_seconds(seconds)
    return AutoscalingSpec(least=least, most=most, policy=policy)


def _bounds(found: Fields, least: str, most: str) -> tuple[int, int]:
    low, high = found.whole(least, 1), found.whole(most, 0)
    if not low <= high or high == 0:
        raise ConfigError(
            f"at least {low} and at most {high} workers: that cannot be", subject=found.where(most)
        )
    return low, high


def _rule(rule: Fields) -> dict[str, Any]:  # Any: what JSON holds
    target, schedule = rule.inner("target"), rule.inner("schedule")
    idle = rule.optional("idle", parse_duration)
    if sum(each is not None for each in (target, schedule, idle)) != 1:
        raise ConfigError("a rule is one of target, schedule, idle", subject=rule.where("target"))
    if target is not None:
        return {"target": _target(target)}
    if schedule is not None:
        begins, ends = schedule.needed_text("begins"), schedule.needed_text("ends")
        for each in (begins, ends):
            cron.parse(each)
        return {
            "schedule": {"begins": begins, "ends": ends, "workers": schedule.whole("workers", 0)}
        }
    return {"idle": show_seconds(idle or 0.0)}


def _target(target: Fields) -> dict[str, float]:
    shares = {"capacityPercent": "capacity", "hitRatioPercent": "hit_ratio"}
    names = target.names()
    if len(names) != 1 or names[0] not in {"queuedFills", *shares}:
        raise ConfigError("a target has one measure", subject=target.where("queuedFills"))
    (name,) = names
    value = target.whole(name, 0)
    return {shares[name]: value / 100} if name in shares else {"queued_fills": float(value)}


def _horizontal(found: Fields) -> HorizontalSpec:
    least, most = _bounds(found, "minReplicas", "maxReplicas")
    return HorizontalSpec(least=least, most=most, metrics=found.free_list("metrics"))
