"""Warm reads: on the worker's node, and over the network."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from cachefs.benchmarks.clusters import DATASET, Cluster, WorkerPlan
from cachefs.benchmarks.context import Bench
from cachefs.benchmarks.floors import RawSender, prepared, read_in_threads
from cachefs.benchmarks.measuring import Contestant, Row
from cachefs.benchmarks.nginx import BUCKET, Nginx
from cachefs.benchmarks.readers import open_reader_of, read_file_in_threads, read_whole
from cachefs.benchmarks.shards import total_size
from cachefs.client.reader import OpenDataset, Reader
from cachefs.config.schema import GIB, ReaderConfig
from cachefs.core.blocks import block_count, block_range
from cachefs.core.membership import Member, View
from cachefs.core.names import DatasetName, WorkerId
from cachefs.errors import CacheFSError
from cachefs.ports import FileRef, ResolvedVersion

CONNECTIONS = 4
_THREADS = 2
_METADATA_SECONDS = 10.0


def local(bench: Bench) -> list[Row]:
    """Read one file, warm, in a process on the worker's node: a descriptor is handed over."""
    paths = bench.shards()
    with (
        bench.nginx(paths[0].parent) as nginx,
        Cluster(bench.folder / "local") as cluster,
    ):
        cluster.start_worker(WorkerPlan(capacity_bytes=bench.size + 2 * GIB))
        cluster.add_dataset(nginx.url, f"s3://{BUCKET}/")
        cluster.warm()
        file, size = paths[0].name, paths[0].stat().st_size
        ours_into, floor_into = prepared(size), prepared(size)
        with cluster.reader(ReaderConfig()) as reader:
            dataset = reader.open(DATASET)
            backing = tier_file(cluster, dataset, file)
            comparison = bench.compare(
                {
                    "cachefs": Contestant(
                        lambda: read_file_in_threads(dataset, file, ours_into, _THREADS)
                    ),
                    "preadv": Contestant(lambda: read_in_threads(backing, floor_into, _THREADS)),
                },
                cluster=cluster,
                others=nginx.processes(),
            )
            _check_all_from(reader, "local")
        if ours_into != floor_into:
            raise CacheFSError("the two did not read the same bytes")
    row = comparison.row("local", "cachefs", "preadv", at_least=0.95)
    return [replace(row, against=f"{row.against}, {_THREADS} threads, same file and buffer")]


def remote(bench: Bench) -> list[Row]:
    """Read everything over loopback TCP into a prepared buffer, digests verified."""
    paths = bench.shards()
    size = total_size(paths)
    buffer = prepared(size)
    with (
        bench.nginx(paths[0].parent) as nginx,
        Cluster(bench.folder / "remote") as cluster,
    ):
        cluster.start_worker(WorkerPlan(capacity_bytes=size + 2 * GIB))
        cluster.add_dataset(nginx.url, f"s3://{BUCKET}/")
        cluster.warm()
        config = ReaderConfig(local=False, connections_limit=CONNECTIONS)
        with cluster.reader(config) as reader:
            dataset = reader.open(DATASET)
            yardstick = _serve_blocks(bench, dataset, reader, paths[0].parent)
            with (
                yardstick,
                open_reader_of(reader, _Yardstick(dataset, reader, yardstick)) as same,
                RawSender(paths, CONNECTIONS) as sender,
            ):
                from_nginx = same.open(DATASET)
                comparison = bench.compare(
                    {
                        "cachefs": Contestant(lambda: read_whole(dataset, buffer)),
                        "raw sendfile to recv_into": Contestant(lambda: sender.receive(buffer)),
                        "same reader from nginx": Contestant(
                            lambda: read_whole(from_nginx, buffer)
                        ),
                    },
                    cluster=cluster,
                    others=[sender.process.pid, *nginx.processes(), *yardstick.processes()],
                )
            _check_all_from(reader, "peer")
    return [
        comparison.row("remote", "cachefs", "raw sendfile to recv_into", at_least=0.80),
        comparison.row("remote, HTTP", "cachefs", "same reader from nginx", at_least=0.90),
    ]


class _Yardstick:
    """Metadata of a cluster whose only worker is an nginx."""

    def __init__(self, dataset: OpenDataset, reader: Reader, nginx: Nginx) -> None:
        self._resolved = dataset.resolved
        self._metadata = reader.metadata
        member = Member(
            worker=WorkerId("nginx"),
            incarnation="",
            node="elsewhere",
            zone="",
            pool=dataset.resolved.pool,
            weight=1.0,
            data_address=f"{nginx.address}:{nginx.port}",
            control_address="",
            socket_path="",
        )
        self._view = View(1, (member,))

    def view(self, *, deadline: float) -> View:
        """Return the one member."""
        del deadline
        return self._view

    def resolve(
        self, name: DatasetName, version: str | None, *, deadline: float
    ) -> ResolvedVersion:
        """Return the one version."""
        del name, version, deadline
        return self._resolved

    def digests(self, file: FileRef, *, deadline: float) -> Sequence[bytes | None]:
        """Return what the real cluster knows."""
        return self._metadata.digests(file, deadline=deadline)


def _serve_blocks(bench: Bench, dataset: OpenDataset, reader: Reader, files: Path) -> Nginx:
    """Start an nginx that answers a reader as a worker does, with each block's digest."""
    block_size = reader.cluster.block_size
    deadline = reader.runtime.monotonic() + _METADATA_SECONDS
    served: dict[str, Path] = {}
    headers: dict[str, str] = {}
    for entry in dataset.files:
        known = reader.metadata.digests(dataset.resolved.file(entry), deadline=deadline)
        target = f"/v1/files/{entry.file_version}"
        served[target] = files / entry.path
        for index in range(block_count(entry.size, block_size)):
            digest = known[index]
            if digest is None:
                raise CacheFSError("a warm file without a digest", subject=entry.path)
            block = block_range(index, entry.size, block_size)
            headers[f"{target} bytes={block.offset}-{block.end - 1}"] = digest.hex()
    return bench.nginx(files, "nginx-blocks", aliases=served, digests=headers)


def tier_file(cluster: Cluster, dataset: OpenDataset, path: str) -> Path:
    """Return the file of a worker's tier that holds a file of the dataset."""
    entry = dataset.resolved.manifest.find(path)
    for folder in cluster.tier_folders():
        for candidate in folder.rglob(f"*{entry.file_version}*"):
            if candidate.is_file() and candidate.stat().st_size == entry.size:
                return candidate
    raise CacheFSError("the tier has no such file", subject=path)


def _check_all_from(reader: Reader, source: str) -> None:
    """Make sure that the measured bytes came the way that the scenario is about."""
    by_source = reader.statistics().bytes_by_source
    others = {name: size for name, size in by_source.items() if name != source and size}
    if others:
        raise CacheFSError(f"bytes came from elsewhere than {source}", hint=str(others))
