"""The dashboard's panels. A row is a question, and its panels are the answer.

Expressions are PromQL with two of Grafana's variables: the pools that were chosen, and the range over which a rate
can be told at the graph's resolution. They name only metrics that are declared, and labels that these have.
"""

from dataclasses import dataclass
from typing import Literal

from cachefs.k8s.observing.components import Name

_POOLS = '{pool=~"$pool"}'
_OVER = "[$__rate_interval]"
Unit = Literal["bytes", "Bps", "percentunit", "short", "ops", "s"]


@dataclass(frozen=True, slots=True)
class Series:
    """What is drawn: an expression, and how its lines are called."""

    expression: str
    legend: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """One graph, or one number."""

    title: str
    what: str
    """What one sees, and when it is good."""
    unit: Unit
    series: tuple[Series, ...]
    form: Literal["timeseries", "stat"] = "timeseries"
    width: int = 8
    stacked: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """Panels with one question."""

    title: str
    about: Name
    """What must be there for it to be shown."""
    panels: tuple[Panel, ...]


def _rate(metric: str, by: str = "") -> str:
    summed = f"sum by ({by}) " if by else "sum"
    return f"{summed}(rate({metric}{_POOLS}{_OVER}))"


_HITS, _MISSES = _rate("cachefs_worker_hits_total"), _rate("cachefs_worker_misses_total")
_USED = f"sum(cachefs_worker_used_bytes{_POOLS})"
_CAPACITY = f"sum(cachefs_worker_capacity_bytes{_POOLS})"


def _time(metric: str) -> str:
    """Return for how long a block is among those that a metric counts."""
    filled = _rate("cachefs_worker_filled_blocks_total")
    return f"sum(avg_over_time({metric}{_POOLS}{_OVER})) / ({filled} > 0)"


_READS = Row(
    title="What do readers get?",
    about="worker",
    panels=(
        Panel(
            title="Hit ratio",
            what="Of the blocks that were asked for, how many were there.",
            unit="percentunit",
            form="stat",
            width=6,
            series=(Series(f"{_HITS} / ({_HITS} + {_MISSES})", "hits"),),
        ),
        Panel(
            title="From the origin",
            what="Bytes a second that the origin is asked for, and may charge for.",
            unit="Bps",
            form="stat",
            width=6,
            series=(Series(_rate("cachefs_origin_read_bytes_total"), "origin"),),
        ),
        Panel(
            title="Resident",
            what="What all workers hold.",
            unit="bytes",
            form="stat",
            width=6,
            series=(Series("max(cachefs_coordinator_resident_bytes)", "resident"),),
        ),
        Panel(
            title="Workers",
            what="In good standing.",
            unit="short",
            form="stat",
            width=6,
            series=(Series("max(cachefs_coordinator_members)", "members"),),
        ),
        Panel(
            title="Bytes served, by source",
            what="From where workers had what they sent: memory and disk are hits.",
            unit="Bps",
            stacked=True,
            series=(Series(_rate("cachefs_worker_served_bytes_total", "source"), "{{source}}"),),
        ),
        Panel(
            title="Hit ratio, by pool",
            what="Low in the first hours of a dataset, high afterwards; low for long means that it does not fit.",
            unit="percentunit",
            series=(
                Series(
                    f"{_rate('cachefs_worker_hits_total', 'pool')} / ({_rate('cachefs_worker_hits_total', 'pool')}"
                    f" + {_rate('cachefs_worker_misses_total', 'pool')})",
                    "{{pool}}",
                ),
            ),
        ),
        Panel(
            title="Connections and lent descriptors",
            what="Readers over the network, and on the worker's own node, where no byte is copied.",
            unit="short",
            series=(
                Series(f"sum(cachefs_worker_connections{_POOLS})", "connections"),
                Series(f"sum(cachefs_worker_leases{_POOLS})", "lent"),
            ),
        ),
    ),
)

_FILLS = Row(
    title="Where do bytes come from, and how fast?",
    about="worker",
    panels=(
        Panel(
            title="Bytes filled, by source",
            what="From peers it costs nothing but the network.",
            unit="Bps",
            stacked=True,
            series=(Series(_rate("cachefs_worker_filled_bytes_total", "source"), "{{source}}"),),
        ),
        Panel(
            title="Origin: bytes, by client",
            what="What was read from origins.",
            unit="Bps",
            stacked=True,
            series=(Series(_rate("cachefs_origin_read_bytes_total", "client"), "{{client}}"),),
        ),
        Panel(
            title="Origin: requests and errors",
            what="Errors are tried again; those that remain fail a fill.",
            unit="ops",
            series=(
                Series(_rate("cachefs_origin_requests_total", "client"), "{{client}}"),
                Series(_rate("cachefs_origin_errors_total", "client"), "{{client}}, failed"),
            ),
        ),
        Panel(
            title="Fills that wait, and under way",
            what="What waits for long wants more workers, or a warm-up with a rate.",
            unit="short",
            series=(
                Series(f"sum(cachefs_worker_queued_fills{_POOLS})", "waiting"),
                Series(f"sum(cachefs_worker_inflight_fills{_POOLS})", "under way"),
            ),
        ),
        Panel(
            title="Time to fill a block",
            what="How long one waits for a thread, and is under way then: those that do, by how many are filled a second "
            "(Little's law). Warm-ups count in the latter.",
            unit="s",
            series=(
                Series(_time("cachefs_worker_queued_fills"), "waits"),
                Series(_time("cachefs_worker_inflight_fills"), "is under way"),
            ),
        ),
        Panel(
            title="Fills that failed, files that were refuted",
            what="Both should be nothing.",
            unit="ops",
            series=(
                Series(_rate("cachefs_worker_failed_fills_total"), "failed fills"),
                Series(_rate("cachefs_worker_refuted_files_total"), "refuted files"),
            ),
        ),
    ),
)

_TIERS = Row(
    title="Does it fit?",
    about="worker",
    panels=(
        Panel(
            title="Fullness, by tier",
            what="A full tier is as it should be; it is short of room when it evicts what is read again.",
            unit="percentunit",
            series=(
                Series(
                    f"sum by (pool, tier) (cachefs_worker_used_bytes{_POOLS}) / "
                    f"sum by (pool, tier) (cachefs_worker_capacity_bytes{_POOLS})",
                    "{{pool}}, {{tier}}",
                ),
            ),
        ),
        Panel(
            title="Used and capacity",
            what="Over all workers; reserved is what is promised to bytes on their way.",
            unit="bytes",
            series=(
                Series(_USED, "used"),
                Series(f"sum(cachefs_worker_reserved_bytes{_POOLS})", "reserved"),
                Series(_CAPACITY, "capacity"),
                Series(f"sum(cachefs_worker_lacking_bytes{_POOLS})", "taken by others"),
            ),
        ),
        Panel(
            title="Evictions, by tier",
            what="Blocks a second that made room for others.",
            unit="ops",
            series=(Series(_rate("cachefs_worker_evicted_blocks_total", "tier"), "{{tier}}"),),
        ),
        Panel(
            title="Blocks that move",
            what="After workers came or went, until each block is where it belongs; and copies for a crowd.",
            unit="short",
            series=(
                Series(f"sum(cachefs_worker_moving_blocks{_POOLS})", "moving"),
                Series(f"sum(cachefs_worker_guest_blocks{_POOLS})", "guests"),
            ),
        ),
        Panel(
            title="Disks that fail",
            what="Both should be nothing.",
            unit="ops",
            series=(
                Series(_rate("cachefs_worker_corrupt_blocks_total", "pod"), "{{pod}}, corrupt"),
                Series(_rate("cachefs_worker_write_errors_total", "pod"), "{{pod}}, refused"),
            ),
        ),
        Panel(
            title="Policies",
            what="What they did, by kind.",
            unit="ops",
            series=(
                Series(
                    f"sum by (action) (rate(cachefs_coordinator_policy_actions_total{_OVER}))",
                    "{{action}}",
                ),
            ),
        ),
    ),
)

_FLOWS = Row(
    title="What is being done?",
    about="coordinator",
    panels=(
        Panel(
            title="Warm-ups",
            what="Waiting and running.",
            unit="short",
            series=(Series("max by (state) (cachefs_coordinator_warm_jobs)", "{{state}}"),),
        ),
        Panel(
            title="Runs of flows",
            what="By state, of those that are kept.",
            unit="short",
            series=(Series("max by (state) (cachefs_flow_runs)", "{{state}}"),),
        ),
        Panel(
            title="Steps under way",
            what="And those that did not stop when they were told to, which should be none.",
            unit="short",
            series=(
                Series("sum(cachefs_flow_attempts)", "under way"),
                Series("sum(increase(cachefs_flow_left_behind_total[1h]))", "left behind"),
            ),
        ),
    ),
)

_HINTS = Row(
    title="What are schedulers told?",
    about="coordinator",
    panels=(
        Panel(
            title="Hints",
            what="Answers a second; without an opinion, a scheduler does as ever.",
            unit="ops",
            series=(
                Series(f"sum(rate(cachefs_hint_answers_total{_OVER}))", "answers"),
                Series(
                    f"sum(rate(cachefs_hint_without_opinion_total{_OVER}))", "without an opinion"
                ),
                Series(f"sum(rate(cachefs_hint_degraded_total{_OVER}))", "worth less"),
            ),
        ),
        Panel(
            title="Time for a hint",
            what="Schedulers wait for it.",
            unit="s",
            series=(
                Series(
                    f"sum(rate(cachefs_hint_answer_seconds_total{_OVER})) / "
                    f"sum(rate(cachefs_hint_answers_total{_OVER}))",
                    "an answer",
                ),
                Series("max(cachefs_hint_inventory_behind_seconds)", "age of what is known"),
            ),
        ),
        Panel(
            title="How far off hints are",
            what="The median of how far estimates were off, either way, of the outcomes that were told.",
            unit="percentunit",
            series=(Series("max(cachefs_hint_error_median)", "off"),),
        ),
    ),
)

_MOUNTS = Row(
    title="How are the mounts?",
    about="csi",
    panels=(
        Panel(
            title="Nodes whose mount answers",
            what="And those where a copy is held, so that a restart ends nothing. Both should be all nodes.",
            unit="short",
            series=(
                Series("sum(cachefs_csi_mounted)", "answer"),
                Series("sum(cachefs_csi_shelf_held)", "held"),
                Series("count(cachefs_csi_mounted)", "nodes"),
            ),
        ),
        Panel(
            title="Volumes published",
            what="That pods have now.",
            unit="short",
            series=(Series("sum(cachefs_csi_targets)", "volumes"),),
        ),
        Panel(
            title="Volumes: failures, refusals, healed",
            what="Refused is what may not be; healed is what was bound to a new mount.",
            unit="ops",
            series=(
                Series(f"sum(rate(cachefs_csi_failures_total{_OVER}))", "failed"),
                Series(f"sum(rate(cachefs_csi_refused_total{_OVER}))", "refused"),
                Series(f"sum(rate(cachefs_csi_healed_total{_OVER}))", "healed"),
            ),
        ),
    ),
)

_CLUSTER = Row(
    title="What is declared?",
    about="operator",
    panels=(
        Panel(
            title="Operator: objects that wait for a look",
            what="Near nothing, but for a moment after a restart.",
            unit="short",
            series=(Series("max(cachefs_operator_waiting_objects)", "waiting"),),
        ),
        Panel(
            title="Operator: looks that failed",
            what="By what was looked at; they are repeated.",
            unit="ops",
            series=(
                Series(
                    f"sum by (keeper) (rate(cachefs_operator_failed_looks_total{_OVER}))",
                    "{{keeper}}",
                ),
            ),
        ),
        Panel(
            title="Datasets",
            what="That are declared.",
            unit="short",
            series=(Series("max(cachefs_coordinator_datasets)", "datasets"),),
        ),
    ),
)

_PODS = Row(
    title="What is injected?",
    about="webhook",
    panels=(
        Panel(
            title="Pods reviewed",
            what="With and without a hint.",
            unit="ops",
            series=(
                Series(f"sum by (hint) (rate(cachefs_webhook_reviews_total{_OVER}))", "{{hint}}"),
            ),
        ),
        Panel(
            title="Pods injected, by mode",
            what="What pods were given.",
            unit="ops",
            series=(
                Series(f"sum by (mode) (rate(cachefs_webhook_injected_total{_OVER}))", "{{mode}}"),
            ),
        ),
        Panel(
            title="Went on without us",
            what="Should be nothing.",
            unit="ops",
            series=(
                Series(f"sum by (part) (rate(cachefs_webhook_failures_total{_OVER}))", "{{part}}"),
            ),
        ),
    ),
)

ROWS: tuple[Row, ...] = (_READS, _FILLS, _TIERS, _FLOWS, _HINTS, _MOUNTS, _CLUSTER, _PODS)
