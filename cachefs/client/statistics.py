"""What a reader did, in numbers: bytes by source add up to the bytes it delivered."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from cachefs.core.names import WorkerId
from cachefs.ports import Runtime

LOCAL = "local"
"""Through a descriptor from a worker on this node."""
PEER = "peer"
"""From a worker that had it on its tiers, or from one of its peers."""
ORIGIN = "origin"
"""From a worker that had to fill it from the origin for this read."""
MEMORY = "memory"
"""Delivered again from the reader's own memory."""


class Delivery(NamedTuple):
    """Bytes that reached the caller."""

    source: str
    zone: str
    """Of the worker they came from; empty for the reader's own memory."""
    bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ReaderStatistics:
    """A reader's totals since it began."""

    reads: int
    bytes_by_source: Mapping[str, int]
    """``local``, ``peer``, ``origin`` and ``memory``; together the bytes delivered."""
    bytes_by_zone: Mapping[str, int]
    """By the zone of the worker; without those from the reader's own memory."""
    hedges: int
    hedges_won: int
    retries: int
    """Times that another worker, or the same one again, had to be asked."""
    integrity_failures: int
    """Blocks that did not match their digest."""
    suspects: Mapping[WorkerId, int]
    """Who served those, and how often."""
    readahead_blocks: int
    """Blocks fetched ahead of use."""
    fetch_seconds_p50: float | None
    """Median of recent fetches that needed no fill; ``None`` if there were none."""
    fetch_seconds_p99: float | None

    @property
    def bytes_delivered(self) -> int:
        """All bytes that reached callers."""
        return sum(self.bytes_by_source.values())


class ReadCounters:
    """Counts; safe from any thread."""

    def __init__(self, runtime: Runtime) -> None:
        """Start at nothing."""
        self._lock = runtime.condition()
        self.reads = 0
        self.by_source: Counter[str] = Counter()
        self.by_zone: Counter[str] = Counter()
        self.retries = 0
        self.suspects: Counter[WorkerId] = Counter()
        self.readahead_blocks = 0

    def delivered(self, deliveries: Iterable[Delivery]) -> None:
        """Count one read that succeeded."""
        with self._lock:
            self.reads += 1
            for delivery in deliveries:
                self.by_source[delivery.source] += delivery.bytes
                if delivery.source != MEMORY:
                    self.by_zone[delivery.zone] += delivery.bytes

    def retried(self) -> None:
        """Count a request that had to be made because another failed."""
        with self._lock:
            self.retries += 1

    def distrust(self, worker: WorkerId) -> None:
        """Count a block that did not match its digest."""
        with self._lock:
            self.suspects[worker] += 1

    def read_ahead(self) -> None:
        """Count a block that was fetched ahead of use."""
        with self._lock:
            self.readahead_blocks += 1

    def snapshot(
        self, *, hedges: tuple[int, int], p50: float | None, p99: float | None
    ) -> ReaderStatistics:
        """Return the totals."""
        with self._lock:
            return ReaderStatistics(
                reads=self.reads,
                bytes_by_source={
                    source: self.by_source[source] for source in (LOCAL, PEER, ORIGIN, MEMORY)
                },
                bytes_by_zone=dict(self.by_zone),
                hedges=hedges[0],
                hedges_won=hedges[1],
                retries=self.retries,
                integrity_failures=self.suspects.total(),
                suspects=dict(self.suspects),
                readahead_blocks=self.readahead_blocks,
                fetch_seconds_p50=p50,
                fetch_seconds_p99=p99,
            )
