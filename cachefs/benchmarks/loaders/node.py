"""The same node, everything warm: tensors as views, and tensors in memory of their own."""

from cachefs.benchmarks.clusters import DATASET, Cluster, WorkerPlan
from cachefs.benchmarks.context import Bench
from cachefs.benchmarks.floors import back_free_memory
from cachefs.benchmarks.loaders.chart import draw_rates
from cachefs.benchmarks.loaders.rivals import (
    CLONES,
    FAST,
    FLOOR,
    RUNAI,
    VIEWS,
    Load,
    framework,
    rivals,
    size_of,
)
from cachefs.benchmarks.measuring import Comparison, Contestant, Row, skipped_row
from cachefs.benchmarks.shards import total_size
from cachefs.config.schema import GIB
from cachefs.sdk import open_dataset
from cachefs.sdk.safetensors import load_file

OUR_VIEWS = "cachefs, views"
OUR_VIEWS_FRESH = "cachefs, views, opening included"
OURS = "cachefs, own memory"
_GOALS = {CLONES: 2.5, RUNAI: 5.0, FAST: 8.0, FLOOR: 0.9}


def load(bench: Bench) -> list[Row]:
    """Load a warm checkpoint on its node, as views and into memory of its own, by us and by others."""
    paths = bench.shards()
    kind = framework()
    with Cluster(bench.folder / "load") as cluster:
        start(cluster, bench)
        others = rivals(paths)
        with open_dataset(DATASET, state=cluster.folder) as dataset:

            def own() -> int:
                return size_of(load_file("", dataset=dataset, framework=kind, backend="pread"))

            def views() -> int:
                return size_of(load_file("", dataset=dataset, framework=kind, backend="mmap"))

            def fresh() -> int:
                name = f"cachefs://{DATASET}"
                return size_of(
                    load_file(name, state=cluster.folder, framework=kind, backend="mmap")
                )

            contestants = {OURS: own, **{n: run for n, run in others.items() if n != VIEWS}}
            slow = _compare(bench, cluster, contestants)
            if VIEWS not in others:
                return [skipped_row("load, views", "safetensors is not installed"), *_rows(slow)]
            contestants = {OUR_VIEWS: views, OUR_VIEWS_FRESH: fresh, VIEWS: others[VIEWS]}
            quick = _compare(bench, cluster, contestants)
    _draw(bench, slow)
    return [
        quick.row("load, views", OUR_VIEWS, VIEWS, at_least=1.0),
        quick.row("load, views, opening included", OUR_VIEWS_FRESH, VIEWS, at_least=None),
        *_rows(slow),
    ]


def start(cluster: Cluster, bench: Bench) -> None:
    """Start one worker and have it hold the checkpoint."""
    paths = bench.shards()
    cluster.start_worker(WorkerPlan(capacity_bytes=total_size(paths) + 2 * GIB))
    body = {"name": DATASET, "origin": {"url": f"file://{paths[0].parent}"}}
    cluster.api.post("/v1/datasets", body)
    cluster.warm()


def _compare(bench: Bench, cluster: Cluster, contestants: dict[str, Load]) -> Comparison:
    return bench.compare(
        {
            name: Contestant(run, prepare=lambda: back_free_memory(bench.size))
            for name, run in contestants.items()
        },
        cluster=cluster,
        others=(),
    )


def _rows(comparison: Comparison) -> list[Row]:
    rows = []
    for rival, goal in _GOALS.items():
        scenario = f"load, own memory, {rival}"
        if rival in comparison.samples:
            rows.append(comparison.row(scenario, OURS, rival, at_least=goal))
        else:
            rows.append(skipped_row(scenario, f"{rival} is not installed"))
    return rows


def _draw(bench: Bench, comparison: Comparison) -> None:
    rates = {name: comparison.rate(name) / 1e9 for name in comparison.samples}
    path = bench.folder / "load.png"
    title = "Loading a warm checkpoint into memory, GB/s"
    bench.say(
        f"chart: {path}"
        if draw_rates(path, title, rates)
        else "no chart: matplotlib is not installed"
    )
