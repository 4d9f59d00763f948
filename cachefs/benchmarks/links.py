"""Links: workers on machines of their own, each behind a link of a known speed."""

import statistics

from cachefs.benchmarks.clusters import DATASET, Cluster, WorkerPlan
from cachefs.benchmarks.context import Bench, CannotRunError
from cachefs.benchmarks.floors import prepared
from cachefs.benchmarks.measuring import Contestant, Row, Sample, spread
from cachefs.benchmarks.namespaces import Network, why_not
from cachefs.benchmarks.nginx import BUCKET
from cachefs.benchmarks.readers import read_whole
from cachefs.benchmarks.shards import make_shards, total_size
from cachefs.config.schema import GIB, MIB, ClusterConfig, ReaderConfig

_WORKERS = 4
_ORIGIN_BITS = 200_000_000
_NODE_BITS = 1_000_000_000
_SIZE = 1_000_000_000
"""Takes the origin's link 40 s; more would measure that link again and again."""
_BLOCK_BYTES = 2 * MIB
"""Of 1 GB there must be some hundred blocks, or chance alone would favour one worker by a tenth."""
_CONNECTIONS = 32
"""Eight a worker, or by chance one of them would often have nothing to do."""


def netns(bench: Bench) -> list[Row]:
    """Read from one worker, then from four, each behind its own link."""
    reason = why_not()
    if reason:
        raise CannotRunError(reason)
    size = 16 * MIB if bench.quick else _SIZE
    folder = bench.folder / f"links-{size}-{bench.seed}"
    paths = make_shards(folder, size=size, seed=bench.seed, shard_bytes=size)
    buffer = prepared(total_size(paths))
    reading = ReaderConfig(local=False, connections_limit=_CONNECTIONS, deadline_seconds=60.0)
    with Network() as network:
        origin = network.add("origin", bits_rate=_ORIGIN_BITS)
        machines = [network.add(f"w{at + 1}", bits_rate=_NODE_BITS) for at in range(_WORKERS)]
        plans = [
            WorkerPlan(
                name=f"worker-{at + 1}",
                capacity_bytes=size + GIB,
                host=machine.address,
                command_prefix=machine.command_prefix,
            )
            for at, machine in enumerate(machines)
        ]
        with (
            bench.nginx(folder, machine=origin) as nginx,
            Cluster(
                bench.folder / "netns",
                host=network.address,
                config=ClusterConfig(block_size=_BLOCK_BYTES),
            ) as cluster,
        ):

            def measure() -> list[Sample]:
                with cluster.reader(reading) as reader:
                    dataset = reader.open(DATASET)
                    comparison = bench.compare(
                        {"cachefs": Contestant(lambda: read_whole(dataset, buffer))},
                        cluster=cluster,
                        others=nginx.processes(),
                    )
                return comparison.samples["cachefs"]

            cluster.start_worker(plans[0])
            cluster.add_dataset(nginx.url, f"s3://{BUCKET}/")
            bench.say(f"netns: filling {size / 1e6:.0f} MB through the origin's link")
            filled = total_size(paths) / cluster.warm()
            one = measure()
            sent_before = nginx.sent_bytes()
            for plan in plans[1:]:
                cluster.start_worker(plan)
            cluster.warm()
            moved_from_origin = nginx.sent_bytes() - sent_before
            four = measure()
    note = (
        f"filled at {filled * 8 / 1e6:.0f} Mbit/s; three workers joined: "
        f"{moved_from_origin} bytes from the origin"
    )
    return _rows(one, four, note)


def _rows(one: list[Sample], four: list[Sample], note: str) -> list[Row]:
    links = _WORKERS * _NODE_BITS / 8
    from_one = statistics.median(sample.rate for sample in one)
    from_four = statistics.median(sample.rate for sample in four)
    rates = [sample.rate for sample in four]
    return [
        Row(
            scenario="netns, 4 workers",
            value=from_four / 1e9,
            unit="GB/s",
            against=f"sum of the worker links ({links / 1e9:.2f} GB/s)",
            ratio=from_four / links,
            at_least=0.85,
            runs=len(four),
            spread=spread(rates),
            note=note,
        ),
        Row(
            scenario="netns, growth",
            value=from_four / from_one,
            unit="times",
            against=f"1 worker ({from_one / 1e9:.3f} GB/s)",
            ratio=from_four / from_one,
            at_least=3.4,
            runs=len(four),
            spread=spread(rates),
        ),
    ]
