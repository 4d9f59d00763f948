"""Idle recovery: what becomes of datasets that nobody has used for a while.

First the copy in memory goes to disk (*demote*), then everything goes (*evict*). That their pool goes to
zero workers is autoscaling's business (:mod:`cachefs.core.autoscaling`), which sees the same idleness.

A policy is bound to one dataset, to a namespace, or to everything; the nearest one counts, whole: a
dataset's own policy is not mended by its namespace's. What is pinned stays, and so does what is lent out,
which is the workers' to know.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from cachefs.core.names import DatasetName
from cachefs.errors import ConfigError

EVERYTHING = ""
"""The scope of the policy for whatever has none of its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IdlePolicy:
    """What happens after how long, in seconds; ``None`` for never."""

    demote_after: float | None = None
    evict_after: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """A dataset, and how it is used."""

    dataset: DatasetName
    idle_seconds: float
    """Since anybody read, warmed or opened anything of it."""
    memory_bytes: int = 0
    """Of it, in memory tiers."""
    disk_bytes: int = 0
    pinned: bool = False


@dataclass(frozen=True, slots=True)
class Recovery:
    """What to do with a dataset."""

    dataset: DatasetName
    action: Literal["demote", "evict"]
    size: int
    """Bytes that it frees: of memory, or of all tiers."""
    reason: str


def check_policy(policy: IdlePolicy) -> None:
    """Make sure that a policy makes sense.

    Raises:
        ConfigError: It does not.
    """
    demote, evict = policy.demote_after, policy.evict_after
    if any(after is not None and after <= 0 for after in (demote, evict)):
        raise ConfigError("a dataset that is idle at once could never be used")
    if demote is not None and evict is not None and demote > evict:
        raise ConfigError("it would be evicted before it is demoted")


def policy_for(policies: Mapping[str, IdlePolicy], dataset: DatasetName) -> IdlePolicy | None:
    """Return the policy that counts for a dataset.

    Args:
        policies: By scope: ``namespace/name``, ``namespace``, or :data:`EVERYTHING`.
        dataset: Which.
    """
    for scope in (f"{dataset.namespace}/{dataset.name}", dataset.namespace, EVERYTHING):
        if scope in policies:
            return policies[scope]
    return None


def recover(policies: Mapping[str, IdlePolicy], usages: Iterable[Usage]) -> tuple[Recovery, ...]:
    """Return what is to be done now, what has been idle longest first."""
    found: list[Recovery] = []
    for usage in sorted(usages, key=lambda one: (-one.idle_seconds, str(one.dataset))):
        policy = policy_for(policies, usage.dataset)
        if policy is None or usage.pinned:
            continue
        reason = f"unused for {usage.idle_seconds:.0f} s"
        held = usage.memory_bytes + usage.disk_bytes
        if _is_due(policy.evict_after, usage) and held:
            found.append(Recovery(usage.dataset, "evict", held, reason))
        elif _is_due(policy.demote_after, usage) and usage.memory_bytes:
            found.append(Recovery(usage.dataset, "demote", usage.memory_bytes, reason))
    return tuple(found)


def _is_due(after: float | None, usage: Usage) -> bool:
    return after is not None and usage.idle_seconds >= after
