"""How old hints are: from a block that has just landed on a worker to the hint that counts it.

A reader reads one block after the other that nobody holds. As soon as it has a block, hints are asked for
until one counts it. What is measured is what a scheduler would see: the worker's report, the coordinator's
store, the inventory, HTTP. The pauses between the reads are drawn, so that reports are met at any moment.
"""

import random
import statistics
import time

from cachefs.benchmarks.clusters import Cluster, WorkerPlan
from cachefs.benchmarks.context import Bench
from cachefs.benchmarks.measuring import Row, limit_row
from cachefs.config.schema import GIB, MIB, ClusterConfig, HintsConfig, ReaderConfig
from cachefs.errors import DeadlineError

_BLOCK = MIB
_BLOCKS = 40
_BLOCKS_QUICK = 3
_LIMIT_SECONDS = 1.0
_PAUSE_SECONDS = 1.2
_POLL_SECONDS = 0.01
_WAIT_SECONDS = 30.0
_NAME = "model"


def hint_freshness(bench: Bench) -> list[Row]:
    """Read blocks that nobody holds; time from each block to the hint that counts it, the longest."""
    draw = random.Random(bench.seed)
    count = _BLOCKS_QUICK if bench.quick else _BLOCKS
    folder = bench.folder / f"freshness-{count}"
    folder.mkdir(exist_ok=True)
    (folder / "weights.bin").write_bytes(draw.randbytes(count * _BLOCK))
    config, hints = ClusterConfig(block_size=_BLOCK), HintsConfig()
    reading = ReaderConfig(local=False, readahead_bytes=0)
    times = []
    with Cluster(bench.folder / "freshness", config=config, hints=hints) as cluster:
        cluster.start_worker(WorkerPlan(capacity_bytes=GIB, node_name="n1"))
        body = {"name": _NAME, "origin": {"url": f"file://{folder}"}}
        cluster.api.post("/v1/datasets", body)
        _wait_for(cluster, 0)
        with cluster.reader(reading) as reader:
            file = reader.open(_NAME).file("weights.bin")
            buffer = memoryview(bytearray(_BLOCK))
            for index in range(count):
                time.sleep(draw.uniform(0, _PAUSE_SECONDS))  # noqa: TID251 - real time is measured
                file.read_into(index * _BLOCK, buffer)
                landed = time.perf_counter()
                _wait_for(cluster, (index + 1) * _BLOCK)
                times.append(time.perf_counter() - landed)
    middle = statistics.median(times)
    note = f"{count} blocks, p50 {middle:.2f} s"
    return [
        limit_row("hint-freshness", [max(times)], "s, longest", limit=_LIMIT_SECONDS, note=note)
    ]


def _wait_for(cluster: Cluster, size: int) -> None:
    """Return as soon as a hint counts so many bytes on the node."""
    question = {"datasets": [{"name": _NAME}], "renderings": []}
    until = time.perf_counter() + _WAIT_SECONDS
    while time.perf_counter() < until:
        nodes = cluster.api.post("/v1/hints", question)["nodes"]
        if nodes and nodes[0]["bytes"]["total"] and nodes[0]["bytes"]["nvme"] >= size:
            return
        time.sleep(_POLL_SECONDS)  # noqa: TID251 - real time is measured
    raise DeadlineError("no hint counts the block")
