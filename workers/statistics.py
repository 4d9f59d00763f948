"""Statistics: what one worker says of itself, for people as JSON and for Prometheus as samples."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from cachefs.telemetry.metrics import Sample, by_label
from cachefs.workers.filling.fills import FillStatistics
from cachefs.workers.proving.proofs import ProofStatistics
from cachefs.workers.storage.inventory import StoreStatistics


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerStatistics:
    """All parts of a worker at one moment."""

    store: StoreStatistics
    fill: FillStatistics
    proof: ProofStatistics
    served_bytes: Mapping[str, int]
    """By source: ``memory``, ``disk``, ``peer``, ``origin``."""
    connections: int
    leases: int
    moving_blocks: int = 0
    """What newcomers have yet to take from this worker."""
    guest_blocks: int = 0
    """Copies of blocks that others own, which are here for a crowd."""
    referred: int = 0
    """Requests for a block of which a crowd was being sent, that another worker was to answer."""
    used_seconds_ago: Mapping[str, float] = field(default_factory=dict)
    """When each dataset was last read here; of those that were, lately."""

    def to_document(self) -> dict[str, Any]:
        """Return it as a JSON object, as renewals and ``Stat`` carry it."""
        fill = asdict(self.fill)
        return {
            "tiers": [asdict(tier) for tier in self.store.tiers],
            **{name: value for name, value in fill.items() if name != "origins"},
            "origins": fill["origins"],
            **asdict(self.proof),
            "served_bytes": dict(self.served_bytes),
            "connections": self.connections,
            "leases": self.leases,
            "moving_blocks": self.moving_blocks,
            "guest_blocks": self.guest_blocks,
            "referred": self.referred,
            "used_seconds_ago": dict(self.used_seconds_ago),
        }

    def samples(self) -> Iterator[Sample]:
        """Yield it as Prometheus samples."""
        for tier in self.store.tiers:
            label = (tier.medium,)
            yield "cachefs_worker_capacity_bytes", label, tier.capacity_bytes
            yield "cachefs_worker_lacking_bytes", label, tier.lacking_bytes
            yield "cachefs_worker_used_bytes", label, tier.used_bytes
            yield "cachefs_worker_reserved_bytes", label, tier.reserved_bytes
            yield "cachefs_worker_blocks", label, tier.blocks
            yield "cachefs_worker_evicted_blocks_total", label, tier.evictions
            yield "cachefs_worker_corrupt_blocks_total", label, tier.corrupt_blocks
            yield "cachefs_worker_write_errors_total", label, tier.write_errors
        fill = self.fill
        yield "cachefs_worker_hits_total", (), fill.hits
        yield "cachefs_worker_misses_total", (), fill.misses
        yield from by_label("cachefs_worker_filled_bytes_total", fill.filled_bytes)
        yield from by_label("cachefs_worker_filled_blocks_total", fill.filled_blocks)
        yield "cachefs_worker_failed_fills_total", (), fill.failed_fills
        yield "cachefs_worker_queued_fills", (), fill.queued_fills
        yield "cachefs_worker_inflight_fills", (), fill.inflight_fills
        yield "cachefs_worker_proven_files_total", (), self.proof.proven_files
        yield "cachefs_worker_refuted_files_total", (), self.proof.refuted_files
        yield "cachefs_worker_proving_files", (), self.proof.proving_files
        yield from by_label("cachefs_worker_served_bytes_total", self.served_bytes)
        yield "cachefs_worker_connections", (), self.connections
        yield "cachefs_worker_leases", (), self.leases
        yield "cachefs_worker_moving_blocks", (), self.moving_blocks
        yield "cachefs_worker_guest_blocks", (), self.guest_blocks
        yield "cachefs_worker_referred_total", (), self.referred
        yield from by_label("cachefs_origin_requests_total", fill.origins.requests)
        yield from by_label("cachefs_origin_read_bytes_total", fill.origins.read_bytes)
        yield from by_label("cachefs_origin_errors_total", fill.origins.errors)


def sampler(statistics: Callable[[], WorkerStatistics]) -> Callable[[], Iterator[Sample]]:
    """Return what the metrics ask at each scrape."""
    return lambda: statistics().samples()
