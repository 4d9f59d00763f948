"""The shape of a simulated cluster, and settings for it.

How many machines and zones there are, on which machine each process runs, what tiers a worker has,
what is pinned, whether it scrubs: all of that is in the plan.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cachefs.config.schema import (
    ClusterConfig,
    FillConfig,
    HeatConfig,
    ReaderConfig,
    TierConfig,
)

BLOCK_BYTES = 4096
"""One page, the smallest unit that a tier counts in."""
CLUSTER = ClusterConfig(block_size=BLOCK_BYTES, lease_seconds=4.0)
FILL = FillConfig(
    inflight_fills_limit=4,
    attempts_limit=3,
    backoff_seconds=0.1,
    failure_memory_seconds=0.5,
    peer_timeout_seconds=1.0,
    fill_seconds=8.0,
    uncached_blocks_limit=4,
)
HEAT = HeatConfig(capacity_share=0.5, idle_seconds=2.0)
READER = ReaderConfig(
    deadline_seconds=10.0,
    stall_seconds=2.5,
    hedge_seconds_min=0.02,
    view_seconds=1.0,
    readahead_bytes=4 * BLOCK_BYTES,
    block_cache_bytes=8 * BLOCK_BYTES,
)
"""Everything quicker than in production, in the same proportions."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterPlan:
    """How a cluster is made."""

    workers: int
    readers: int
    replicas: int
    capacity_blocks: int
    """Of each worker's disk."""
    memory_blocks: int = 0
    """Of each worker's memory; 0 if it has a disk only."""
    marks: tuple[float, float] = (0.95, 0.7)
    """The high and the low mark of every tier."""
    zones: int = 1
    nodes: int = 1
    """Machines; processes are dealt out to them in turn."""
    local: bool = False
    """Whether readers borrow from the workers of their node."""
    pins: tuple[str, ...] = ()
    """Paths that are pinned from the beginning."""
    ttl_seconds: float = 0.0
    """Blocks that are not pinned go when they were not read for so long; 0 for never."""
    versions_kept: int = 3
    scrub_seconds: float = 0.0
    """In which a worker verifies all that it holds; 0 for never."""
    stored: bool = False
    """Whether the coordinator is the real one, on a database."""
    eviction: str
    files: Mapping[str, bytes]
    with_digests: bool = False
    """Whether what the files must hash to is known beforehand."""
    cluster: ClusterConfig = CLUSTER
    fill: FillConfig = FILL
    heat: HeatConfig = HEAT
    reader: ReaderConfig = READER


def tiers_of(
    disk_bytes: int, *, memory_bytes: int, eviction: str, marks: tuple[float, float]
) -> tuple[TierConfig, ...]:
    """Return a worker's tiers, fastest first; without memory if that has no bytes."""
    high, low = marks
    sizes = (("memory", memory_bytes), ("disk", disk_bytes))
    return tuple(
        TierConfig(
            folder=Path("/") / medium,
            medium=medium,
            capacity_bytes=size,
            high_mark=high,
            low_mark=low,
            eviction=eviction,
        )
        for medium, size in sizes
        if size
    )
