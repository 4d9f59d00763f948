"""Autoscaling: how many workers a pool should have, from what was seen of it lately.

:func:`decide` is pure: a policy, what was observed, and the time go in; a number and its reason come out.
So a policy can be tried on a recorded trace before it scales anything, and a decision can be explained
by the very values that led to it.

Each rule *recommends* a number:

- *scheduled*: at least so many from one minute to another (as KEDA's cron scaler has it);
- *target*: as many as would bring a measure to its target. For what each worker has a share of (capacity
  used, queued fills), that is ``ceil(workers * measured / target)``, within a tolerance of a tenth (the
  formula and the tolerance are those of Kubernetes' HorizontalPodAutoscaler). A hit ratio does not grow in
  proportion to anything, so below its target one worker more is recommended, as long as the capacity is
  used up: a miss for want of a first read is not helped by workers;
- *idle*: none at all, once nothing was read for so long.

The highest recommendation counts. A pool grows at once. It shrinks towards the highest number that was
recommended within ``calm_seconds``, once in such a time and by a quarter at most: what leaves must be
handed over, and a queue that is empty *because* there are workers enough recommends too few. To be idle
for long enough is no lull, and takes everybody at once. Between two changes lie ``cooldown_seconds``,
with one exception: a pool of no workers that somebody wants to read from is woken at once.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from cachefs.core.cron import Cron
from cachefs.errors import ConfigError

Measure = Literal["capacity", "queued_fills", "hit_ratio"]

TOLERANCE = 0.1
"""A measure so near its target changes nothing."""
FULL = 0.9
"""A pool whose tiers are used up to here evicts, or is about to: a hit ratio is short of room."""

_SHRINK_SHARE = 4
"""At most one worker in so many leaves at once."""


@dataclass(frozen=True, slots=True)
class Scheduled:
    """At least so many workers from one minute to another."""

    begins: Cron
    ends: Cron
    workers: int

    def is_on(self, at: float) -> bool:
        """Say whether a moment is in between: then the end comes before the next beginning."""
        return self.ends.next_after(at) < self.begins.next_after(at)


@dataclass(frozen=True, slots=True)
class Target:
    """As many workers as bring a measure to its target."""

    measure: Measure
    value: float
    """``capacity``: share of the tiers that is used, over 0 and up to 1. ``queued_fills``: a worker.
    ``hit_ratio``: share of the blocks that were there when they were asked for."""


@dataclass(frozen=True, slots=True)
class Idle:
    """No worker at all, once nothing was read for so long."""

    after_seconds: float


Rule = Scheduled | Target | Idle


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """How a pool follows what is asked of it."""

    rules: tuple[Rule, ...]
    least: int = 1
    """Fewer only when idle."""
    most: int
    cooldown_seconds: float = 60.0
    """Between two changes."""
    calm_seconds: float = 300.0
    """A pool shrinks when less was enough for so long."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """What was seen of a pool at one moment."""

    at: float
    """Seconds since 1970."""
    workers: int
    """That were there, or on their way."""
    capacity_used: float = 0.0
    """Share of the tiers that is used, 0 to 1."""
    queued_fills: float = 0.0
    """Over all workers."""
    hit_ratio: float | None = None
    """Since the last observation; ``None`` if nothing was asked for."""
    idle_seconds: float = 0.0
    """Since anybody read, warmed or opened anything of the pool's datasets."""


@dataclass(frozen=True, slots=True)
class Decision:
    """How many workers there should be."""

    workers: int
    reason: str
    """For people: ``12 fills are queued a worker, 4 are aimed at``."""


def check_policy(policy: Policy) -> None:
    """Make sure that a policy makes sense.

    Raises:
        ConfigError: It does not.
    """
    if not 0 <= policy.least <= policy.most or policy.most < 1:
        raise ConfigError(f"at least {policy.least} and at most {policy.most}: that cannot be")
    if policy.cooldown_seconds < 0 or policy.calm_seconds < 0:
        raise ConfigError("a time is not negative")
    for rule in policy.rules:
        if isinstance(rule, Scheduled) and not 0 <= rule.workers <= policy.most:
            raise ConfigError(f"{rule.workers} scheduled workers are more than {policy.most}")
        if isinstance(rule, Target):
            most = math.inf if rule.measure == "queued_fills" else 1.0
            if not 0 < rule.value <= most:
                raise ConfigError(f"{rule.value:g} is no target for {rule.measure}")
        if isinstance(rule, Idle) and rule.after_seconds <= 0:
            raise ConfigError("a pool that is idle at once could never be used")


def decide(
    policy: Policy, history: Sequence[Observation], *, changed_at: float | None
) -> Decision | None:
    """Return how many workers a pool should have; ``None`` to leave it as it is.

    Args:
        policy: The rules.
        history: What was observed, the oldest first, the last one now; older ones than
            ``calm_seconds`` do not matter.
        changed_at: When the number was last changed; ``None`` for never.
    """
    if not history:
        return None
    now = history[-1]
    wanted = recommend(policy, now)
    if now.workers == 0:
        return wanted if wanted.workers > 0 else None
    if changed_at is not None and now.at - changed_at < policy.cooldown_seconds:
        return None
    if now.workers > policy.most:
        return Decision(policy.most, f"{policy.most} at most")
    if wanted.workers > now.workers or wanted.workers == 0:
        return wanted
    return _shrink(policy, history, changed_at) if wanted.workers < now.workers else None


def _shrink(
    policy: Policy, history: Sequence[Observation], changed_at: float | None
) -> Decision | None:
    """Take away a few of those that were not needed for the calm time."""
    now = history[-1]
    calm_since = max(history[0].at, -math.inf if changed_at is None else changed_at)
    if now.at - calm_since < policy.calm_seconds:
        return None
    calm = [one for one in history if now.at - one.at <= policy.calm_seconds]
    highest = max((recommend(policy, one) for one in calm), key=lambda each: each.workers)
    left = max(highest.workers, now.workers - max(1, now.workers // _SHRINK_SHARE))
    return Decision(left, highest.reason) if left < now.workers else None


def recommend(policy: Policy, seen: Observation) -> Decision:
    """Return what the rules recommend for one moment, whatever was before."""
    idle = min(
        (rule.after_seconds for rule in policy.rules if isinstance(rule, Idle)), default=math.inf
    )
    scheduled = [_scheduled(rule, seen) for rule in policy.rules if isinstance(rule, Scheduled)]
    floor = max(scheduled, key=lambda each: each.workers, default=Decision(0, ""))
    if seen.idle_seconds >= idle and floor.workers == 0:
        return Decision(0, f"nothing was read for {_span(seen.idle_seconds)}")
    found = [_targeted(rule, seen) for rule in policy.rules if isinstance(rule, Target)]
    if not found:
        # Nothing measures anything: what is there stays, unless a schedule says more.
        base = Decision(policy.least, f"at least {policy.least} are wanted")
        found = [base if seen.workers == 0 or scheduled else Decision(seen.workers, "")]
    best = max([floor, *found], key=lambda each: each.workers)
    if best.workers > policy.most:
        return Decision(policy.most, f"{best.reason}; {policy.most} at most")
    least = max(policy.least, 1 if seen.idle_seconds < idle and policy.least == 0 else 0)
    if best.workers < least:
        woken = seen.workers == 0 and policy.least == 0
        return Decision(least, "somebody reads" if woken else f"at least {least} are wanted")
    return best


def _scheduled(rule: Scheduled, seen: Observation) -> Decision:
    if not rule.is_on(seen.at):
        return Decision(0, "")
    return Decision(rule.workers, f"{rule.workers} from `{rule.begins.text}` to `{rule.ends.text}`")


def _targeted(rule: Target, seen: Observation) -> Decision:
    if rule.measure == "hit_ratio":
        return _for_hits(rule.value, seen)
    if rule.measure == "capacity":
        measured = seen.capacity_used
        reason = f"{measured:.0%} of the capacity is used, {rule.value:.0%} is aimed at"
    else:
        measured = seen.queued_fills / max(1, seen.workers)
        reason = f"{measured:.3g} fills are queued a worker, {rule.value:.3g} are aimed at"
    ratio = measured / rule.value
    if seen.workers and abs(ratio - 1) <= TOLERANCE:
        return Decision(seen.workers, reason)
    return Decision(math.ceil(seen.workers * ratio), reason)


def _for_hits(aim: float, seen: Observation) -> Decision:
    if seen.hit_ratio is None or seen.hit_ratio >= aim or seen.capacity_used < FULL:
        short = seen.capacity_used >= FULL
        return Decision(seen.workers if short else 0, "hits are as they should be")
    reason = f"{seen.hit_ratio:.0%} are hits, {aim:.0%} are aimed at, and the tiers are full"
    return Decision(seen.workers + 1, reason)


def _span(seconds: float) -> str:
    for name, length in (("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.3g} {name}"
    return f"{seconds:.3g} s"
