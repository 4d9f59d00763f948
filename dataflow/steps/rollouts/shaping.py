"""Shaping: how many replicas there shall be now, and whether a batch is healthy. Pure."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cachefs.dataflow.spec.arguments import Health
from cachefs.dataflow.steps.rollouts.targets import Replica

_PERCENTILE = 0.95


@dataclass(frozen=True, slots=True)
class Standing:
    """A target's replicas, as a rollout of one revision sees them."""

    new: int
    """Of the revision, that live."""
    ready: int
    """Of these."""
    old: Mapping[str, int]
    """Of other revisions, that live."""


def standing(replicas: Sequence[Replica], revision: str) -> Standing:
    """Count a target's replicas."""
    live = Counter(one.revision for one in replicas if one.state != "failed")
    ready = sum(one.state == "ready" and one.revision == revision for one in replicas)
    new = live.pop(revision, 0)
    return Standing(new, ready, dict(live))


def batches(batch: Sequence[int], replicas: int) -> tuple[int, ...]:
    """Return how many replicas are there after each batch: the last time, all."""
    return (*(size for size in batch if size < replicas), replicas)


def shape(now: Standing, revision: str, *, goal: int, replicas: int, surge: int) -> dict[str, int]:
    """Return what a target shall have next, on its way to ``goal`` replicas of a revision.

    Old replicas leave as new ones become ready, so that there are never fewer than ``replicas`` that
    can work (or than there were), and never more than ``surge`` beyond that.
    """
    kept = min(sum(now.old.values()), max(0, replicas - now.ready))
    room = replicas + surge - kept if kept else replicas
    # Replicas of the revision that are there already stay, even if the batch is of fewer.
    new = max(min(goal, room), min(now.new, replicas))
    found = {revision: new} if new else {}
    for name in sorted(now.old):
        if kept and now.old[name]:
            found[name] = min(kept, now.old[name])
            kept -= found[name]
    return found


def fault(replicas: Sequence[Replica], health: Health, *, size: int, now: float) -> str:
    """Say why a batch is not healthy and will not be; empty if it may still be.

    Args:
        replicas: Of the batch.
        health: What is asked of it.
        size: How many replicas it is of.
        now: Seconds since 1970.
    """
    failed = [one for one in replicas if one.state == "failed"]
    allowed = math.floor((health.error_rate or 0.0) * size + 1e-9)
    if len(failed) > allowed:
        why = f"; the last said: {failed[-1].failure}" if failed[-1].failure else ""
        return f"{len(failed)} of {size} replicas failed, and {allowed} may{why}"
    if health.ready_p95 is not None:
        ages = [_age(one, now) for one in replicas if one.state != "failed"]
        late = sum(age > health.ready_p95 for age in ages)
        if late > size - math.ceil(_PERCENTILE * size):
            return f"{late} of {size} replicas were not ready within {health.ready_p95:g} s"
    return ""


def _age(replica: Replica, now: float) -> float:
    """Return how long a replica took to be ready, or has taken so far."""
    if replica.ready_seconds is not None:
        return replica.ready_seconds
    return now - replica.started_at if replica.started_at else 0.0


def ready_p95(replicas: Sequence[Replica]) -> float:
    """Return the seconds within which 95 % of the ready replicas were ready; 0 without any."""
    seconds = sorted(one.ready_seconds for one in replicas if one.ready_seconds is not None)
    return seconds[math.ceil(_PERCENTILE * len(seconds)) - 1] if seconds else 0.0
