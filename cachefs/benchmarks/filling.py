"""Cold reads: through an empty cache from S3, by one reader and by eight at once."""

import os
from pathlib import Path

from cachefs.benchmarks.clusters import DATASET, Cluster, WorkerPlan
from cachefs.benchmarks.context import Bench, CannotRunError
from cachefs.benchmarks.floors import back_free_memory, prepared
from cachefs.benchmarks.measuring import Contestant, Row
from cachefs.benchmarks.namespaces import Network, why_not
from cachefs.benchmarks.nginx import BUCKET, Nginx
from cachefs.benchmarks.plain import read_with_boto3, read_with_obstore
from cachefs.benchmarks.readers import digests_of, finish_reader, read_whole, start_reader
from cachefs.benchmarks.shards import total_size
from cachefs.config.schema import GIB, MIB, ReaderConfig
from cachefs.errors import CacheFSError

_THREADS = 4
_READERS = 8
_LINK_BITS = 2_000_000_000
"""Less than one core can read, and more than one connection to a store gives."""
_LINK_SIZE = 1_000_000_000


def cold(bench: Bench) -> list[Row]:
    """Read everything for the first time; the bytes land on the worker's disk on their way."""
    paths = bench.shards()
    with bench.nginx(paths[0].parent) as nginx:
        return [_read_cold(bench, "cold", nginx, paths)]


def cold_link(bench: Bench) -> list[Row]:
    """Read for the first time from an origin behind a link of 2 Gbit/s, as origins are."""
    reason = why_not()
    if reason:
        raise CannotRunError(reason)
    paths = bench.shards(16 * MIB if bench.quick else _LINK_SIZE)
    with Network() as network:
        origin = network.add("origin", bits_rate=_LINK_BITS)
        with bench.nginx(paths[0].parent, machine=origin) as nginx:
            return [_read_cold(bench, "coldlink", nginx, paths)]


def _read_cold(bench: Bench, name: str, nginx: Nginx, paths: list[Path]) -> Row:
    size = total_size(paths)
    files = [(path.name, path.stat().st_size) for path in paths]
    buffer = prepared(size)
    with Cluster(bench.folder / name) as cluster:
        cluster.start_worker(WorkerPlan(capacity_bytes=size + 2 * GIB))
        cluster.add_dataset(nginx.url, f"s3://{BUCKET}/")

        def read_cold() -> int:
            sent_before = nginx.sent_bytes()
            with cluster.reader(ReaderConfig(connections_limit=_THREADS)) as reader:
                read = read_whole(reader.open(DATASET), buffer)
            if nginx.sent_bytes() - sent_before != size:
                raise CacheFSError(
                    "a cold read did not cost the origin exactly one copy",
                    hint=f"{nginx.sent_bytes() - sent_before} of {size} bytes",
                )
            return read

        def settle() -> None:
            os.sync()
            back_free_memory(size + GIB)

        def make_cold() -> None:
            cluster.evict()
            settle()

        comparison = bench.compare(
            {
                "cachefs": Contestant(read_cold, make_cold),
                "obstore": Contestant(
                    lambda: read_with_obstore(nginx.url, files, buffer, _THREADS), settle
                ),
                "boto3": Contestant(
                    lambda: read_with_boto3(nginx.url, files, buffer, _THREADS), settle
                ),
            },
            cluster=cluster,
            others=nginx.processes(),
        )
    fastest = comparison.fastest(["obstore", "boto3"])
    return comparison.row(name, "cachefs", fastest, at_least=0.85)


def cold_eight(bench: Bench) -> list[Row]:
    """Read everything in eight processes at once: the origin pays once."""
    paths = bench.shards()
    size = total_size(paths)
    expected = digests_of(paths)
    with (
        bench.nginx(paths[0].parent) as nginx,
        Cluster(bench.folder / "cold8") as cluster,
    ):
        plans = [WorkerPlan(name=f"worker-{at}", capacity_bytes=size + 2 * GIB) for at in (1, 2, 3)]
        for plan in plans:
            cluster.start_worker(plan)
        cluster.add_dataset(nginx.url, f"s3://{BUCKET}/")
        shares: list[float] = []
        seconds: list[float] = []
        for _ in range(bench.runs):
            shares.append(_read_in_eight(cluster, nginx, expected, seconds) / size)
            cluster.evict()
    worst = max(shares)
    return [
        Row(
            scenario="cold8",
            value=worst,
            unit="origin bytes ÷ dataset bytes",
            against="exactly 1.00, the worst of the runs",
            ratio=min(1 / share for share in shares) if worst >= 1 else worst,
            at_least=1.0,
            runs=len(shares),
            spread=worst - min(shares),
            note=f"{_READERS} readers took {min(seconds):.1f} to {max(seconds):.1f} s",
        )
    ]


def _read_in_eight(
    cluster: Cluster, nginx: Nginx, expected: dict[str, str], seconds: list[float]
) -> int:
    """Run the readers and return what the origin sent."""
    sent_before = nginx.sent_bytes()
    # Half of them share descriptors with the worker, half are remote.
    readers = [start_reader(cluster.folder, DATASET, local=at % 2 == 0) for at in range(_READERS)]
    for reader in readers:
        report = finish_reader(reader)
        seconds.append(report["seconds"])
        if report["digests"] != expected:
            raise CacheFSError("a reader read wrong bytes")
    return nginx.sent_bytes() - sent_before
