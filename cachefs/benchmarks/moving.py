"""Joins and drains: what moves between workers, against what must.

What must move is counted from what the workers hold and own, before and after; what has moved, from what
they say that they took from each other. The origin must have given nothing.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from cachefs.benchmarks.clusters import DATASET, Cluster, WorkerPlan, pause
from cachefs.benchmarks.context import Bench
from cachefs.benchmarks.measuring import Row
from cachefs.benchmarks.shards import total_size
from cachefs.config.schema import GIB, MIB, ClusterConfig
from cachefs.errors import CacheFSError

_MOVED_MAX = 1.1
_SECONDS = 600.0
_SIZE = 1_000_000_000
_WORKERS = ("worker-1", "worker-2", "worker-3")
_NEWCOMER = "worker-4"
_LOOK_SECONDS = 0.25

_RUNS = 3
Blocks = dict[tuple[str, int], dict[str, Any]]
"""By path and index: what the coordinator tells of a block."""
Plan = Callable[[str], WorkerPlan]
Act = Callable[[Cluster, Plan], None]
"""What is done to a cluster."""
Must = Callable[[Blocks, Blocks], int]
"""What must move, from the blocks before and after."""


class _Run(NamedTuple):
    moved: int
    wanted: int
    seconds: float


def join(bench: Bench) -> list[Row]:
    """Add a fourth worker: a quarter of the blocks changes hands, from workers alone."""

    def act(cluster: Cluster, plan: Plan) -> None:
        cluster.start_worker(plan(_NEWCOMER))

    def must(_: Blocks, after: Blocks) -> int:
        return sum(block["bytes"] for block in after.values() if _NEWCOMER in block["owners"])

    return [_measure(bench, "join", act, must)]


def drain(bench: Bench) -> list[Row]:
    """Drain one of three workers: what it alone holds goes to the others."""
    leaver = _WORKERS[0]

    def act(cluster: Cluster, _: Plan) -> None:
        _until(
            lambda: cluster.api.post(f"/v1/members/{leaver}/drain", {"dry_run": False})["done"],
            "the drain did not end",
        )

    def must(before: Blocks, _: Blocks) -> int:
        return sum(block["bytes"] for block in before.values() if _holders(block) == {leaver})

    return [_measure(bench, "drain", act, must)]


def _measure(bench: Bench, scenario: str, act: Act, must: Must) -> Row:
    paths = bench.shards(48 * MIB if bench.quick else _SIZE)
    runs = [_run(bench, scenario, paths, act, must) for _ in range(1 if bench.quick else _RUNS)]
    ratios = [run.moved / run.wanted for run in runs]
    worst = max(ratios)
    seconds = [run.seconds for run in runs]
    return Row(
        scenario=scenario,
        value=worst,
        unit="bytes moved ÷ bytes that must move",
        against=f"at most {_MOVED_MAX}, the worst of the runs",
        ratio=1 / worst,
        at_least=1 / _MOVED_MAX,
        runs=len(runs),
        spread=worst - min(ratios),
        note=f"{runs[-1].moved / MIB:.0f} MiB in {min(seconds):.1f} to {max(seconds):.1f} s, "
        "nothing from the origin",
    )


def _run(bench: Bench, scenario: str, paths: list[Path], act: Act, must: Must) -> _Run:
    size = total_size(paths)
    names = [path.name for path in paths]
    # A quick run has few bytes, and needs blocks enough for each worker to own some.
    config = ClusterConfig(block_size=MIB) if bench.quick else ClusterConfig()

    def plan(name: str) -> WorkerPlan:
        return WorkerPlan(name=name, capacity_bytes=size + 2 * GIB)

    with Cluster(bench.folder / scenario, config=config) as cluster:
        for name in _WORKERS:
            cluster.start_worker(plan(name))
        url = f"file://{paths[0].parent}"
        cluster.api.post("/v1/datasets", {"name": DATASET, "origin": {"url": url}})
        cluster.warm()
        before, taken = _blocks(cluster, names), _taken(cluster)
        began = time.perf_counter()
        act(cluster, plan)
        _until(lambda: _is_placed(cluster, names), "blocks did not move")
        seconds = time.perf_counter() - began
        wanted = must(before, _blocks(cluster, names))
        return _Run(_settled(cluster, taken), wanted, seconds)


def _blocks(cluster: Cluster, names: list[str]) -> Blocks:
    return {
        (name, block["index"]): block
        for name in names
        for block in cluster.api.get(f"/v1/explain?dataset={DATASET}&path={name}")["blocks"]
    }


def _holders(block: dict[str, Any]) -> set[str]:
    return {each["worker"] for each in block["holders"]}


def _is_placed(cluster: Cluster, names: list[str]) -> bool:
    """Say whether every owner holds its blocks."""
    blocks = _blocks(cluster, names)
    return all(set(block["owners"]) <= _holders(block) for block in blocks.values())


def _taken(cluster: Cluster) -> dict[str, dict[str, int]]:
    """Return what each member has taken from other workers and from the origin so far."""
    members = cluster.api.get("/v1/members")["members"]
    return {each["worker"]: each["statistics"].get("filled_bytes", {}) for each in members}


def _settled(cluster: Cluster, before: dict[str, dict[str, int]]) -> int:
    """Return what was moved, once all have reported it.

    Raises:
        CacheFSError: The origin gave something, too.
    """
    pause(2 * cluster.config.lease_seconds / 4)
    after = _taken(cluster)

    def added(source: str) -> int:
        return sum(
            counts.get(source, 0) - before.get(worker, {}).get(source, 0)
            for worker, counts in after.items()
        )

    if added("origin"):
        raise CacheFSError("the origin paid for it", hint=f"{added('origin')} bytes")
    return added("peer")


def _until(condition: Callable[[], bool], failure: str) -> None:
    deadline = time.perf_counter() + _SECONDS
    while not condition():
        if time.perf_counter() > deadline:
            raise CacheFSError(failure)
        pause(_LOOK_SECONDS)
