"""A checkpoint that is nowhere but in its bucket: through the cache, and by others directly."""

import os
from pathlib import Path

from cachefs.benchmarks.clusters import DATASET, Cluster, WorkerPlan
from cachefs.benchmarks.context import Bench
from cachefs.benchmarks.floors import back_free_memory
from cachefs.benchmarks.loaders.rivals import (
    RUNAI,
    Load,
    framework,
    read_bucket,
    run_ai_bucket,
    size_of,
)
from cachefs.benchmarks.measuring import Contestant, Row, skipped_row
from cachefs.benchmarks.nginx import BUCKET
from cachefs.benchmarks.shards import total_size
from cachefs.config.schema import GIB
from cachefs.errors import CacheFSError
from cachefs.sdk import open_dataset
from cachefs.sdk.safetensors import load_file

_OURS = "cachefs"
_FLOOR = "obstore into huge pages"


def load_cold(bench: Bench) -> list[Row]:
    """Load a checkpoint from S3 for the first time; besides, its bytes land in the cache."""
    paths = bench.shards()
    size = total_size(paths)
    kind = framework()
    with (
        bench.nginx(paths[0].parent) as nginx,
        Cluster(bench.folder / "load-cold") as cluster,
    ):
        cluster.start_worker(WorkerPlan(capacity_bytes=size + 2 * GIB))
        cluster.add_dataset(nginx.url, f"s3://{BUCKET}/")

        def ours() -> int:
            sent_before = nginx.sent_bytes()
            with open_dataset(DATASET, state=cluster.folder) as dataset:
                loaded = size_of(load_file("", dataset=dataset, framework=kind))
            sent = nginx.sent_bytes() - sent_before
            if sent != size:
                raise CacheFSError(f"the origin sent {sent} of {size} bytes: it was not cold")
            return loaded

        def settle() -> None:
            os.sync()
            back_free_memory(2 * size)

        def make_cold() -> None:
            cluster.evict()
            settle()

        others: dict[str, Load] = {_FLOOR: lambda: read_bucket(nginx.url, _sizes(paths))}
        run_ai = run_ai_bucket(nginx.url, [path.name for path in paths])
        if run_ai is not None:
            others[RUNAI] = run_ai
        comparison = bench.compare(
            {
                _OURS: Contestant(ours, make_cold),
                **{name: Contestant(run, settle) for name, run in others.items()},
            },
            cluster=cluster,
            others=nginx.processes(),
        )
    against_run_ai = f"load, cold, {RUNAI}"
    return [
        comparison.row("load, cold", _OURS, _FLOOR, at_least=None),
        comparison.row(against_run_ai, _OURS, RUNAI, at_least=1.0)
        if RUNAI in others
        else skipped_row(against_run_ai, f"{RUNAI} is not installed"),
    ]


def _sizes(paths: list[Path]) -> list[tuple[str, int]]:
    return [(path.name, path.stat().st_size) for path in paths]
