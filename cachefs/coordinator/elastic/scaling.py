"""Scaling: pools get as many workers as their policies decide, and say why.

The rules are :func:`cachefs.core.autoscaling.decide`'s; here is what they are asked with. A number that
was chosen by hand while nothing was used stays as it is until somebody uses something: a pool that is
scaled to nothing is woken by the next reader, not by the last one.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from cachefs.coordinator.elastic.observing import Observer
from cachefs.core.autoscaling import Decision, Observation, Policy, decide, recommend
from cachefs.core.pools import Pool, PoolChange

UNUSED_SECONDS = 1e9
"""How long a pool counts as unused of which nobody has used anything since it went to zero."""
_SLOTS = 200
"""Observations kept for the calm time of a policy; of those in between, the highest one counts."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a pool's policy says now."""

    pool: str
    seen: Observation
    recommended: Decision
    """By the rules for this moment alone."""
    change: PoolChange | None
    """What is done; ``None`` to leave the pool as it is."""
    why: str
    """Of the change, or of there being none."""


@dataclass(slots=True)
class History:
    """What was observed of a pool, the oldest first; bounded."""

    observer: Observer = field(default_factory=Observer)
    kept: list[Observation] = field(default_factory=list)

    def add(self, seen: Observation, policy: Policy) -> None:
        """Add an observation, newer than all."""
        while self.kept and self.kept[-1].at > seen.at:
            self.kept.pop()  # the clock was set back
        slot = policy.calm_seconds / _SLOTS
        if len(self.kept) > 1 and self.kept[-1].at - self.kept[-2].at < slot:
            last = self.kept.pop()
            if recommend(policy, last).workers > recommend(policy, self.kept[-1]).workers:
                self.kept[-1] = last
        self.kept.append(seen)
        # The one before the calm time shows that we have looked for all of it.
        while len(self.kept) > 1 and seen.at - self.kept[1].at > policy.calm_seconds:
            self.kept.pop(0)


def judge(policy: Policy, pool: Pool, history: History) -> Verdict:
    """Say what a policy makes of a pool, by what was observed last."""
    seen = history.kept[-1]
    recommended = recommend(policy, seen)
    # A change that is still to come, as calendars have it, has been long ago.
    changed_at = pool.changed_at if 0 < pool.changed_at <= seen.at else None
    decision = decide(policy, history.kept, changed_at=changed_at)
    if decision is None:
        why = _why_not(policy, seen, recommended, changed_at)
        return Verdict(pool.name, seen, recommended, None, why)
    most = decision.workers if pool.most is None else min(decision.workers, pool.most)
    wanted = max(most, pool.least)
    if wanted == seen.workers:
        why = f"{decision.reason}; but the pool's own bounds hold it at {wanted}"
        return Verdict(pool.name, seen, recommended, None, why)
    change = PoolChange(
        wanted=wanted,
        wanted_by_zone=fitted(pool.wanted_by_zone, wanted),
        by="policy",
        reason=decision.reason,
    )
    return Verdict(pool.name, seen, recommended, change, decision.reason)


def fitted(by_zone: Mapping[str, int], wanted: int) -> dict[str, int]:
    """Return what zones shall have at least, no more than there will be workers."""
    fitting = dict(by_zone)
    while sum(fitting.values()) > wanted:
        largest = max(sorted(fitting), key=lambda zone: fitting[zone])
        fitting[largest] -= 1
    return {zone: count for zone, count in fitting.items() if count}


def _why_not(
    policy: Policy, seen: Observation, recommended: Decision, changed_at: float | None
) -> str:
    if recommended.workers == seen.workers:
        return recommended.reason or "nothing asks for more or fewer"
    if changed_at is not None and seen.at - changed_at < policy.cooldown_seconds:
        left = policy.cooldown_seconds - (seen.at - changed_at)
        return f"{recommended.reason}; but it was changed a moment ago: {left:.0f} s left"
    return f"{recommended.reason or 'fewer would do'}; but less must be enough for a while first"
