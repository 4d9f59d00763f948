"""Observing: how busy a pool is, from what its workers said of themselves with their last renewal."""

import json
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cachefs.core.autoscaling import Observation
from cachefs.core.membership import Member
from cachefs.core.names import DatasetName, WorkerId
from cachefs.errors import ConfigError

HITS_SECONDS = 30.0
"""Hits and misses count for so long: a worker renews only every few seconds."""
_USES_MAX = 1000
"""More uses in one report are not looked at."""


@dataclass(frozen=True, slots=True)
class Report:
    """What a worker said of itself."""

    used_bytes: int = 0
    capacity_bytes: int = 0
    queued_fills: int = 0
    hits: int = 0
    misses: int = 0
    uses: Mapping[DatasetName, float] = field(default_factory=dict)
    """Seconds since each dataset was last read there."""


def read_report(text: str) -> Report:
    """Read a worker's statistics; what is not there, or not as it should be, counts as nothing."""
    document = json.loads(text or "{}")
    tiers = document.get("tiers")
    tiers = [tier for tier in tiers if isinstance(tier, dict)] if isinstance(tiers, list) else []
    return Report(
        used_bytes=sum(_number(tier, "used_bytes") for tier in tiers),
        capacity_bytes=sum(_number(tier, "capacity_bytes") for tier in tiers),
        queued_fills=_number(document, "queued_fills"),
        hits=_number(document, "hits"),
        misses=_number(document, "misses"),
        uses=_uses(document.get("used_seconds_ago")),
    )


def _uses(document: object) -> dict[DatasetName, float]:
    uses: dict[DatasetName, float] = {}
    items = document.items() if isinstance(document, dict) else ()
    for name, seconds in list(items)[:_USES_MAX]:
        try:
            if isinstance(seconds, int | float):
                uses[DatasetName.parse(name)] = float(seconds)
        except ConfigError:
            continue  # a worker of another version may name what we do not know
    return uses


def _number(document: Mapping[str, Any], name: str) -> int:
    value = document.get(name)
    return value if isinstance(value, int) and value >= 0 else 0


class Observer:
    """Observes one pool, look by look. Not safe for concurrent use."""

    def __init__(self) -> None:
        """Begin without a memory."""
        self._counts: dict[tuple[WorkerId, str], tuple[int, int]] = {}
        self._total = (0, 0)
        self._totals: deque[tuple[float, int, int]] = deque()

    def look(
        self,
        members: Sequence[Member],
        reports: Mapping[WorkerId, Report],
        *,
        workers: int,
        idle_seconds: float,
        at: float,
    ) -> Observation:
        """Return what is to be seen of a pool now.

        Args:
            members: Those of the pool that are not on their way out.
            reports: What each said last.
            workers: How many there are, or shall be.
            idle_seconds: Since anybody used any of its datasets.
            at: Seconds since 1970.
        """
        said = [reports.get(member.worker, Report()) for member in members]
        capacity = sum(report.capacity_bytes for report in said)
        used = sum(report.used_bytes for report in said)
        return Observation(
            at=at,
            workers=workers,
            capacity_used=min(1.0, used / capacity) if capacity else 0.0,
            queued_fills=float(sum(report.queued_fills for report in said)),
            hit_ratio=self._hit_ratio(zip(members, said, strict=True), at),
            idle_seconds=idle_seconds,
        )

    def _hit_ratio(self, said: Iterable[tuple[Member, Report]], at: float) -> float | None:
        counts: dict[tuple[WorkerId, str], tuple[int, int]] = {}
        hits, misses = self._total
        for member, report in said:
            key = member.worker, member.incarnation
            counts[key] = report.hits, report.misses
            # What a worker did before we first looked at it says nothing of now.
            before = self._counts.get(key, counts[key])
            hits += max(0, report.hits - before[0])
            misses += max(0, report.misses - before[1])
        self._counts, self._total = counts, (hits, misses)
        self._totals.append((at, hits, misses))
        while len(self._totals) > 1 and not 0 <= at - self._totals[0][0] <= HITS_SECONDS:
            self._totals.popleft()
        _, first_hits, first_misses = self._totals[0]
        asked = hits - first_hits + misses - first_misses
        return (hits - first_hits) / asked if asked else None
