"""Mounted files that another worker has: without its descriptors, it might be on another node."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from cachefs.benchmarks.clusters import DATASET, Cluster, WorkerPlan
from cachefs.benchmarks.context import Bench
from cachefs.benchmarks.floors import back_free_memory, prepared
from cachefs.benchmarks.measuring import Contestant, Row
from cachefs.benchmarks.mounts import passing
from cachefs.benchmarks.mounts.places import mount_other, mount_ours, need
from cachefs.benchmarks.mounts.programs import drop_pages, load_safetensors, read_in_order
from cachefs.benchmarks.mounts.whole import backing_files, files_of
from cachefs.benchmarks.nginx import BUCKET
from cachefs.benchmarks.readers import read_whole
from cachefs.benchmarks.shards import total_size
from cachefs.client.reader import OpenDataset
from cachefs.config.schema import GIB, MIB, ReaderConfig


def mount_remote(bench: Bench) -> list[Row]:
    """Read mounted files of another worker: for the first time, and from the kernel's cache."""
    need()
    paths = bench.shards()
    size = total_size(paths)
    buffer = prepared(size)
    with (
        _served(bench, paths, "mount-remote") as cluster,
        cluster.reader(ReaderConfig(local=False)) as reader,
        mount_ours(bench, cluster, local=False) as mounted,
    ):
        dataset = reader.open(DATASET)
        files = files_of(mounted, paths)

        def make_cold() -> None:
            drop_pages(files)
            back_free_memory(size)

        def touch() -> None:
            read_in_order(files)

        cold = bench.compare(
            {
                "dd cold": Contestant(partial(read_in_order, files), make_cold),
                "reader library": Contestant(lambda: read_whole(dataset, buffer)),
                "reader library, 1 MiB reads": Contestant(lambda: _read_in_pieces(dataset)),
            },
            cluster=cluster,
            others=(),
            coming_and_going=mounted.processes,
        )
        warm = bench.compare(
            {
                "dd warm": Contestant(partial(read_in_order, files), touch),
                "backing files": Contestant(partial(read_in_order, backing_files(cluster, paths))),
            },
            cluster=cluster,
            others=(),
            coming_and_going=mounted.processes,
        )
    name = "mount remote, dd cold"
    return [
        cold.row(name, "dd cold", "reader library", at_least=0.70),
        cold.row(f"{name}, same reads", "dd cold", "reader library, 1 MiB reads", at_least=0.70),
        warm.row("mount cached, dd warm", "dd warm", "backing files", at_least=0.55),
    ]


def mount_mmap(bench: Bench) -> list[Row]:
    """Load mounted safetensors of another worker, cold, by mmap; against fusepy's plain mount."""
    need(
        modules=["fuse=fusepy", "safetensors=safetensors", "ml_dtypes=ml-dtypes"],
        libraries=["fuse=fuse2"],
    )
    paths = bench.shards()
    size = total_size(paths)
    with (
        _served(bench, paths, "mount-mmap") as cluster,
        mount_ours(bench, cluster, local=False) as ours,
        mount_other(
            bench, passing.command("fusepy", str(paths[0].parent)), name="fusepy"
        ) as theirs,
    ):
        our_files, their_files = files_of(ours, paths), files_of(theirs, paths)

        def make_cold() -> None:
            drop_pages([*our_files, *their_files])
            back_free_memory(size)

        comparison = bench.compare(
            {
                "ours": Contestant(partial(load_safetensors, our_files), make_cold),
                "fusepy": Contestant(partial(load_safetensors, their_files), make_cold),
            },
            cluster=cluster,
            others=(),
            coming_and_going=lambda: [*ours.processes(), *theirs.processes()],
        )
    return [comparison.row("mount remote, safetensors cold", "ours", "fusepy", at_least=3.0)]


@contextmanager
def _served(bench: Bench, paths: list[Path], name: str) -> Iterator[Cluster]:
    """Have a worker that holds all of the files; the origin is not needed any more."""
    with Cluster(bench.folder / name) as cluster:
        with bench.nginx(paths[0].parent) as nginx:
            cluster.start_worker(WorkerPlan(capacity_bytes=total_size(paths) + 2 * GIB))
            cluster.add_dataset(nginx.url, f"s3://{BUCKET}/")
            cluster.warm()
        yield cluster


def _read_in_pieces(dataset: OpenDataset) -> int:
    """Read all files in pieces of 1 MiB, in order, as ``dd`` does."""
    buffer = prepared(MIB)
    total = 0
    for entry in dataset.files:
        with dataset.file(entry.path) as file:
            for offset in range(0, entry.size, MIB):
                total += file.read_into(offset, buffer)
    return total
