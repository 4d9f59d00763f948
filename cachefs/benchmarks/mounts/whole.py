"""Mounted files that are whole on this node: the kernel passes them through."""

import importlib.util
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from cachefs.benchmarks.clusters import DATASET, Cluster, WorkerPlan
from cachefs.benchmarks.context import Bench
from cachefs.benchmarks.floors import back_free_memory
from cachefs.benchmarks.measuring import Contestant, Row, skipped_row
from cachefs.benchmarks.mounts.places import Mounted, mount_ours, need, need_passthrough
from cachefs.benchmarks.mounts.programs import (
    load_safetensors,
    read_at_random,
    read_in_order,
    touch_mapped,
)
from cachefs.benchmarks.nginx import BUCKET
from cachefs.benchmarks.readers import digests_of
from cachefs.benchmarks.reading import tier_file
from cachefs.config.schema import GIB, ReaderConfig
from cachefs.errors import CacheFSError

Program = Callable[[Sequence[Path]], int]
"""Goes through files and returns how many bytes it saw."""


def mount(bench: Bench) -> list[Row]:
    """Read mounted files that are whole on this node: four ways, each like the backing files."""
    need()
    need_passthrough()
    paths = bench.shards()
    programs: dict[str, Program] = {
        "dd": read_in_order,
        "mmap": touch_mapped,
        "random 128 KiB": partial(read_at_random, seed=bench.seed),
        "safetensors": load_safetensors,
    }
    rows = []
    with (
        bench.nginx(paths[0].parent) as nginx,
        Cluster(bench.folder / "mount") as cluster,
    ):
        cluster.start_worker(WorkerPlan(capacity_bytes=bench.size + 2 * GIB))
        cluster.add_dataset(nginx.url, f"s3://{BUCKET}/")
        cluster.warm()
        with mount_ours(bench, cluster) as mounted:
            ours, floor = files_of(mounted, paths), backing_files(cluster, paths)
            for name, program in programs.items():
                scenario = f"mount, {name}"
                if name == "safetensors" and not _can_load():
                    rows.append(skipped_row(scenario, "needs safetensors and ml_dtypes"))
                    continue
                back_free_memory(GIB // 4)
                against = f"{name}, backing files"
                comparison = bench.compare(
                    {
                        "ours": Contestant(partial(program, ours)),
                        against: Contestant(partial(program, floor)),
                    },
                    cluster=cluster,
                    others=nginx.processes(),
                    coming_and_going=mounted.processes,
                )
                rows.append(comparison.row(scenario, "ours", against, at_least=0.95))
    return rows


def _can_load() -> bool:
    return all(importlib.util.find_spec(name) for name in ("safetensors", "ml_dtypes"))


def files_of(mounted: Mounted, paths: Sequence[Path]) -> list[Path]:
    """Return the mounted files, having compared all their bytes with the right ones.

    Raises:
        CacheFSError: They are others.
    """
    files = [mounted.folder / path.name for path in paths]
    if digests_of(files) != digests_of(paths):
        raise CacheFSError("the mount shows wrong bytes", subject=str(mounted.folder))
    return files


def backing_files(cluster: Cluster, paths: Sequence[Path]) -> list[Path]:
    """Return the files of the worker's tier that hold a dataset's files."""
    with cluster.reader(ReaderConfig()) as reader:
        dataset = reader.open(DATASET)
        return [tier_file(cluster, dataset, path.name) for path in paths]
