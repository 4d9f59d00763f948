"""Another node: a warm checkpoint over loopback TCP, into memory of its own."""

from cachefs.benchmarks.clusters import DATASET, Cluster
from cachefs.benchmarks.context import Bench
from cachefs.benchmarks.floors import RawSender, back_free_memory
from cachefs.benchmarks.loaders.node import start
from cachefs.benchmarks.loaders.rivals import framework, size_of
from cachefs.benchmarks.measuring import Contestant, Row
from cachefs.benchmarks.shards import total_size
from cachefs.config.schema import ReaderConfig
from cachefs.sdk import open_dataset
from cachefs.sdk.memory import allocate
from cachefs.sdk.safetensors import load_file

_CONNECTIONS = 4
_OURS = "cachefs"
_FLOOR = "raw sendfile to recv_into fresh huge pages"


def load_remote(bench: Bench) -> list[Row]:
    """Load a warm checkpoint over loopback TCP into memory of its own, digests verified."""
    paths = bench.shards()
    size = total_size(paths)
    config = ReaderConfig(local=False, connections_limit=_CONNECTIONS, readahead_bytes=0)
    with Cluster(bench.folder / "load-remote") as cluster:
        start(cluster, bench)
        with (
            open_dataset(DATASET, state=cluster.folder, config=config) as dataset,
            RawSender(paths, _CONNECTIONS) as sender,
        ):

            def ours() -> int:
                return size_of(load_file("", dataset=dataset, framework=framework()))

            def floor() -> int:
                return sender.receive(allocate(size)[0])

            comparison = bench.compare(
                {
                    name: Contestant(run, prepare=lambda: back_free_memory(2 * size))
                    for name, run in ((_OURS, ours), (_FLOOR, floor))
                },
                cluster=cluster,
                others=[sender.process.pid],
            )
    return [comparison.row("load, remote", _OURS, _FLOOR, at_least=0.80)]
