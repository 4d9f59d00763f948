"""Metrics: every one is declared here, with its unit and how far it can be relied on.

A long-lived object does not push into metrics: it has ``statistics()``, a frozen dataclass, and
:class:`StatisticsCollector` turns that into samples when Prometheus asks. So ``cachefs status`` and
``/metrics`` can never disagree, and a hot path pays for a plain addition and nothing else.

Names follow Prometheus: ``cachefs_<component>_<what>_<unit>``, counters end in ``_total``.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

Stability = Literal["stable", "experimental"]


@dataclass(frozen=True, slots=True)
class Declaration:
    """What is known of a metric before it has a value."""

    name: str
    kind: Literal["counter", "gauge"]
    unit: Literal["bytes", "seconds", "count", "ratio"]
    labels: tuple[str, ...]
    help: str
    stability: Stability = "stable"


def _declare(*declarations: Declaration) -> dict[str, Declaration]:
    return {declaration.name: declaration for declaration in declarations}


DECLARED = _declare(
    Declaration(
        "cachefs_worker_capacity_bytes", "gauge", "bytes", ("tier",), "what a tier may hold"
    ),
    Declaration(
        "cachefs_worker_lacking_bytes",
        "gauge",
        "bytes",
        ("tier",),
        "configured, but others fill the disk",
    ),
    Declaration("cachefs_worker_used_bytes", "gauge", "bytes", ("tier",), "resident bytes"),
    Declaration(
        "cachefs_worker_reserved_bytes", "gauge", "bytes", ("tier",), "promised to bytes in flight"
    ),
    Declaration("cachefs_worker_blocks", "gauge", "count", ("tier",), "resident blocks"),
    Declaration(
        "cachefs_worker_evicted_blocks_total", "counter", "count", ("tier",), "blocks evicted"
    ),
    Declaration(
        "cachefs_worker_corrupt_blocks_total",
        "counter",
        "count",
        ("tier",),
        "blocks found damaged and dropped",
    ),
    Declaration(
        "cachefs_worker_write_errors_total",
        "counter",
        "count",
        ("tier",),
        "writes that the disk refused",
    ),
    Declaration(
        "cachefs_worker_hits_total", "counter", "count", (), "blocks that were here when asked for"
    ),
    Declaration("cachefs_worker_misses_total", "counter", "count", (), "blocks that were not"),
    Declaration(
        "cachefs_worker_filled_bytes_total",
        "counter",
        "bytes",
        ("source",),
        "bytes filled, from peers or the origin",
    ),
    Declaration(
        "cachefs_worker_filled_blocks_total",
        "counter",
        "count",
        ("source",),
        "blocks filled, from peers or the origin",
    ),
    Declaration("cachefs_worker_failed_fills_total", "counter", "count", (), "fills that failed"),
    Declaration("cachefs_worker_queued_fills", "gauge", "count", (), "fills that wait"),
    Declaration("cachefs_worker_inflight_fills", "gauge", "count", (), "fills under way"),
    Declaration(
        "cachefs_worker_proven_files_total",
        "counter",
        "count",
        (),
        "files compared with their known digest, and found right",
    ),
    Declaration(
        "cachefs_worker_refuted_files_total",
        "counter",
        "count",
        (),
        "files that were not what their known digest says",
    ),
    Declaration(
        "cachefs_worker_proving_files", "gauge", "count", (), "files being compared, or queued"
    ),
    Declaration(
        "cachefs_worker_served_bytes_total",
        "counter",
        "bytes",
        ("source",),
        "bytes sent to readers and peers",
    ),
    Declaration("cachefs_worker_connections", "gauge", "count", (), "open data-plane connections"),
    Declaration("cachefs_worker_leases", "gauge", "count", (), "descriptors lent out"),
    Declaration(
        "cachefs_worker_moving_blocks",
        "gauge",
        "count",
        (),
        "blocks that newcomers have yet to take",
    ),
    Declaration(
        "cachefs_worker_guest_blocks", "gauge", "count", (), "copies of blocks that others own"
    ),
    Declaration(
        "cachefs_worker_referred_total",
        "counter",
        "count",
        (),
        "askers of a hot block that were sent to another worker",
    ),
    Declaration(
        "cachefs_origin_requests_total", "counter", "count", ("client",), "requests to origins"
    ),
    Declaration(
        "cachefs_origin_read_bytes_total",
        "counter",
        "bytes",
        ("client",),
        "bytes read from origins",
    ),
    Declaration(
        "cachefs_origin_errors_total",
        "counter",
        "count",
        ("client",),
        "requests to origins that failed",
    ),
    Declaration("cachefs_coordinator_members", "gauge", "count", (), "workers in good standing"),
    Declaration("cachefs_coordinator_epoch", "gauge", "count", (), "number of the view"),
    Declaration("cachefs_coordinator_datasets", "gauge", "count", (), "datasets declared"),
    Declaration("cachefs_coordinator_warm_jobs", "gauge", "count", ("state",), "warm-ups by state"),
    Declaration(
        "cachefs_coordinator_resident_bytes", "gauge", "bytes", (), "bytes resident on all workers"
    ),
    Declaration(
        "cachefs_coordinator_suspicions_total",
        "counter",
        "count",
        (),
        "reports that a worker served bad bytes",
    ),
    Declaration(
        "cachefs_coordinator_policy_actions_total",
        "counter",
        "count",
        ("action",),
        "what policies have done",
    ),
    Declaration("cachefs_flow_runs", "gauge", "count", ("state",), "runs of flows that are kept"),
    Declaration("cachefs_flow_attempts", "gauge", "count", (), "steps that are carried out here"),
    Declaration(
        "cachefs_flow_left_behind_total",
        "counter",
        "count",
        (),
        "steps that did not stop when they were told to",
    ),
    Declaration("cachefs_hint_inventory_nodes", "gauge", "count", (), "nodes that hints know"),
    Declaration(
        "cachefs_hint_inventory_behind_seconds",
        "gauge",
        "seconds",
        (),
        "since hints last looked at what the coordinator knows",
    ),
    Declaration(
        "cachefs_hint_inventory_spreads", "gauge", "count", (), "choices of files that are sorted"
    ),
    Declaration(
        "cachefs_hint_inventory_files", "gauge", "count", (), "files in all of these together"
    ),
    Declaration(
        "cachefs_hint_inventory_problems",
        "gauge",
        "count",
        (),
        "why hints know less than they could; a hint says which",
    ),
    Declaration("cachefs_hint_answers_total", "counter", "count", (), "questions answered"),
    Declaration(
        "cachefs_hint_answer_seconds_total", "counter", "seconds", (), "that answering took"
    ),
    Declaration(
        "cachefs_hint_without_opinion_total", "counter", "count", (), "answers without an opinion"
    ),
    Declaration(
        "cachefs_hint_degraded_total", "counter", "count", (), "answers worth less than usual"
    ),
    Declaration("cachefs_hint_outcomes_total", "counter", "count", (), "outcomes that were told"),
    Declaration(
        "cachefs_hint_error_ratio",
        "gauge",
        "ratio",
        (),
        "median of actual over estimated seconds; 1 without outcomes",
    ),
    Declaration(
        "cachefs_hint_error_median",
        "gauge",
        "ratio",
        (),
        "median of how far off estimates were, either way, as a share",
    ),
    Declaration("cachefs_hint_reservations", "gauge", "count", (), "places that are kept"),
    Declaration("cachefs_hint_prefetches_total", "counter", "count", (), "prefetches begun"),
    Declaration("cachefs_csi_mounted", "gauge", "count", (), "1 while the node's mount answers"),
    Declaration("cachefs_csi_targets", "gauge", "count", (), "volumes that are published here"),
    Declaration("cachefs_csi_published_total", "counter", "count", (), "volumes published"),
    Declaration("cachefs_csi_unpublished_total", "counter", "count", (), "volumes unpublished"),
    Declaration("cachefs_csi_failures_total", "counter", "count", (), "calls that failed"),
    Declaration(
        "cachefs_csi_refused_total",
        "counter",
        "count",
        (),
        "calls that may not be, or make no sense",
    ),
    Declaration(
        "cachefs_csi_healed_total", "counter", "count", (), "targets bound anew to a new mount"
    ),
    Declaration(
        "cachefs_csi_shelf_held", "gauge", "count", (), "1 while copies of the mount are kept"
    ),
    Declaration(
        "cachefs_csi_taken_over_total", "counter", "count", (), "times that copies were asked for"
    ),
    Declaration(
        "cachefs_csi_given_up_total", "counter", "count", (), "mounts that nobody served in time"
    ),
    Declaration("cachefs_operator_leads", "gauge", "count", (), "whether it is the one that acts"),
    Declaration(
        "cachefs_operator_looks_total",
        "counter",
        "count",
        ("keeper",),
        "objects compared with what is there",
    ),
    Declaration(
        "cachefs_operator_failed_looks_total",
        "counter",
        "count",
        ("keeper",),
        "looks that failed, and are repeated",
    ),
    Declaration(
        "cachefs_operator_look_seconds_total",
        "counter",
        "seconds",
        ("keeper",),
        "time that looks took",
    ),
    Declaration(
        "cachefs_operator_waiting_objects", "gauge", "count", (), "objects whose turn it is"
    ),
    Declaration(
        "cachefs_webhook_reviews_total", "counter", "count", ("hint",), "pods that were reviewed"
    ),
    Declaration(
        "cachefs_webhook_review_seconds_total", "counter", "seconds", (), "that reviewing took"
    ),
    Declaration(
        "cachefs_webhook_injected_total",
        "counter",
        "count",
        ("mode",),
        "pods that were given something",
    ),
    Declaration(
        "cachefs_webhook_failures_total",
        "counter",
        "count",
        ("part",),
        "pods and schedulers that went on without us",
    ),
    Declaration(
        "cachefs_webhook_extender_total", "counter", "count", ("verb",), "answers to schedulers"
    ),
    Declaration(
        "cachefs_webhook_certificate_left_seconds",
        "gauge",
        "seconds",
        (),
        "until the certificate is no longer good; 0 for none",
    ),
)
"""Every metric of the project by name."""

Sample = tuple[str, tuple[str, ...], float]
"""Metric name, label values, value."""


class StatisticsCollector:
    """Turns what objects say of themselves into Prometheus samples, at scrape time."""

    def __init__(self, sources: Iterable[Callable[[], Iterable[Sample]]]) -> None:
        """Collect from functions that yield samples of declared metrics."""
        self._sources = tuple(sources)

    def collect(self) -> Iterator[Metric]:
        """Yield one family per metric, as ``prometheus_client`` asks for them."""
        families: dict[str, CounterMetricFamily | GaugeMetricFamily] = {}
        for source in self._sources:
            for name, labels, value in source():
                declared = DECLARED[name]
                if name not in families:
                    families[name] = _family(declared)
                families[name].add_metric(labels, value)
        yield from families.values()

    def describe(self) -> list[Metric]:
        """Say nothing beforehand: not every source has every metric."""
        return []


def _family(declared: Declaration) -> CounterMetricFamily | GaugeMetricFamily:
    help_text = f"{declared.help} [{declared.unit}, {declared.stability}]"
    if declared.kind == "counter":
        return CounterMetricFamily(declared.name, help_text, labels=declared.labels)
    return GaugeMetricFamily(declared.name, help_text, labels=declared.labels)


class Metrics:
    """The metrics of one process."""

    def __init__(self, *sources: Callable[[], Iterable[Sample]]) -> None:
        """Register the sources with a registry of their own."""
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(StatisticsCollector(sources))

    def exposition(self) -> bytes:
        """Return the text that ``/metrics`` serves."""
        return generate_latest(self._registry)


def by_label(name: str, values: Mapping[str, float]) -> Iterator[Sample]:
    """Yield a sample for each value of a metric's only label."""
    for label, value in values.items():
        yield name, (label,), value
