"""Counting: what a replay was like, in a few numbers, and policies side by side."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from cachefs.core.hints.spread import added
from cachefs.hints.simulating.replay import Played


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What one policy made of one trace, with the sizes of one seed."""

    policy: str
    seed: int
    requests: int
    mean_seconds: float
    """From a request's arrival until its model was ready."""
    p50_seconds: float
    p90_seconds: float
    p99_seconds: float
    warm: float
    """The share of requests that found their model in the accelerator."""
    origin_bytes: float
    wanted_bytes: float
    """All that requests wanted, wherever it came from."""
    idle_seconds: float
    """How long accelerators were taken and did not run yet, all added up."""
    loads: tuple[float, float, float]
    """Seconds from the start of a load until it was ready, of those that were not warm: p50, p95, p99."""
    bytes_by_source: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """A policy against another, over all seeds."""

    policy: str
    mean_seconds: float
    """The mean of the seeds' means; likewise below."""
    p50_seconds: float
    p99_seconds: float
    origin_bytes: float
    idle_seconds: float
    times_better: float
    """The other's mean seconds over its own."""
    times_better_worst: float
    """In the worst of the seeds."""
    p99_ratio: float
    """Its own p99 over the other's."""
    p99_ratio_worst: float


def count(policy: str, seed: int, played: Played) -> Figures:
    """Count one replay."""
    jobs = played.jobs
    waits = sorted(job.wait_seconds for job in jobs)
    loads = sorted(job.ready_at - job.placed_at for job in jobs if not job.split.gpu)
    sources = added(job.split for job in jobs)
    idle = sum((job.ready_at - job.placed_at) * job.request.gpus for job in jobs)
    return Figures(
        policy=policy,
        seed=seed,
        requests=len(jobs),
        mean_seconds=sum(waits) / len(waits),
        p50_seconds=percentile(waits, 50),
        p90_seconds=percentile(waits, 90),
        p99_seconds=percentile(waits, 99),
        warm=1 - len(loads) / len(jobs),
        origin_bytes=played.origin_bytes,
        wanted_bytes=sources.total,
        idle_seconds=idle,
        loads=(percentile(loads, 50), percentile(loads, 95), percentile(loads, 99)),
        bytes_by_source={kind: size for kind, size in sources._asdict().items() if size},
    )


def percentile(ordered: Sequence[float], percent: float) -> float:
    """Return the smallest value that so many percent are not above; 0 of nothing."""
    at = -(-len(ordered) * percent // 100) - 1
    return ordered[max(int(at), 0)] if ordered else 0.0


def compare(rows: Iterable[Figures], against: str) -> Sequence[Comparison]:
    """Compare every policy with one of them, seed by seed; with itself if that was not played."""
    by_policy: dict[str, dict[int, Figures]] = {}
    for row in rows:
        by_policy.setdefault(row.policy, {})[row.seed] = row
    compared = []
    for policy, own in by_policy.items():
        pairs = [(row, by_policy.get(against, own)[seed]) for seed, row in own.items()]
        better = [_ratio(other.mean_seconds, row.mean_seconds) for row, other in pairs]
        tails = [_ratio(row.p99_seconds, other.p99_seconds) for row, other in pairs]
        mean = _mean([row.mean_seconds for row, _ in pairs])
        tail = _mean([row.p99_seconds for row, _ in pairs])
        compared.append(
            Comparison(
                policy=policy,
                mean_seconds=mean,
                p50_seconds=_mean([row.p50_seconds for row, _ in pairs]),
                p99_seconds=tail,
                origin_bytes=_mean([row.origin_bytes for row, _ in pairs]),
                idle_seconds=_mean([row.idle_seconds for row, _ in pairs]),
                times_better=_ratio(_mean([other.mean_seconds for _, other in pairs]), mean),
                times_better_worst=min(better),
                p99_ratio=_ratio(tail, _mean([other.p99_seconds for _, other in pairs])),
                p99_ratio_worst=max(tails),
            )
        )
    return compared


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _ratio(over: float, under: float) -> float:
    if not under:
        return 1.0 if not over else float("inf")
    return over / under
