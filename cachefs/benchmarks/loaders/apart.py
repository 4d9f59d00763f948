"""Two nodes behind links of their own: one holds a checkpoint, a program on the other loads it.

As a program (``python -m cachefs.benchmarks.loaders.apart STATE DATASET``) it is that other node's
loader: it loads once into memory of its own, and says in JSON how many bytes that were, how long it
took, and the digest of all tensors.
"""

import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import xxhash

from cachefs.benchmarks.clusters import DATASET, Cluster, WorkerPlan
from cachefs.benchmarks.context import Bench, CannotRunError
from cachefs.benchmarks.measuring import Row, spread
from cachefs.benchmarks.namespaces import Machine, Network, why_not
from cachefs.benchmarks.nginx import BUCKET
from cachefs.benchmarks.shards import make_shards, total_size
from cachefs.config.schema import GIB, MIB, ReaderConfig
from cachefs.errors import CacheFSError
from cachefs.sdk import open_dataset
from cachefs.sdk.safetensors import load_file

_BITS = 1_000_000_000
_SIZE = 1_000_000_000
_SHARD_BYTES = 250_000_000
_LOAD_SECONDS = 120.0


def load_second(bench: Bench) -> list[Row]:
    """Load on a second node what the first one holds, over links of 1 Gbit/s."""
    reason = why_not()
    if reason:
        raise CannotRunError(reason)
    size = 16 * MIB if bench.quick else _SIZE
    folder = bench.folder / f"apart-{size}-{bench.seed}"
    paths = make_shards(folder, size=size, seed=bench.seed, shard_bytes=min(size, _SHARD_BYTES))
    size = total_size(paths)
    with Network() as network:
        first, second = (network.add(name, bits_rate=_BITS) for name in ("first", "second"))
        with (
            bench.nginx(folder, machine=first) as nginx,
            Cluster(bench.folder / "load-second", host=network.address) as cluster,
        ):
            cluster.start_worker(
                WorkerPlan(
                    capacity_bytes=size + GIB,
                    host=first.address,
                    command_prefix=first.command_prefix,
                )
            )
            cluster.add_dataset(nginx.url, f"s3://{BUCKET}/")
            cluster.warm()
            sent_before = nginx.sent_bytes()
            reports = [_load_on(second, cluster.folder) for _ in range(bench.runs)]
            sent = nginx.sent_bytes() - sent_before
    if sent or len({report["digest"] for report in reports}) != 1:
        raise CacheFSError(f"the origin sent {sent} bytes to a second node, or tensors differed")
    rates = [report["size"] / report["seconds"] for report in reports]
    link = _BITS / 8
    return [
        Row(
            scenario="load, second node",
            value=statistics.median(rates) / 1e9,
            unit="GB/s",
            against=f"its link ({link / 1e9:.3f} GB/s)",
            ratio=statistics.median(rates) / link,
            at_least=0.90,
            runs=len(rates),
            spread=spread(rates),
            note=f"{sent} bytes from the origin",
        )
    ]


def _load_on(machine: Machine, state: Path) -> dict[str, Any]:
    program = (sys.executable, "-m", "cachefs.benchmarks.loaders.apart")
    done = subprocess.run(
        [*machine.command_prefix, *program, str(state), DATASET],
        stdout=subprocess.PIPE,
        text=True,
        timeout=_LOAD_SECONDS,
        check=False,
    )
    if done.returncode:
        raise CacheFSError(f"the loader on the second node ended with status {done.returncode}")
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def _load_and_report(state: str, name: str) -> dict[str, Any]:
    started = time.perf_counter()
    # All machines of the benchmark see one file system: on others there is no socket to be found.
    with open_dataset(name, state=Path(state), config=ReaderConfig(local=False)) as dataset:
        tensors = load_file("", dataset=dataset, framework="numpy")
        seconds = time.perf_counter() - started
        digest = xxhash.xxh3_128()
        for tensor in tensors.values():
            digest.update(tensor.view("uint8").data)
        size = sum(tensor.nbytes for tensor in tensors.values())
    return {"size": size, "seconds": seconds, "digest": digest.hexdigest()}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(_load_and_report(*sys.argv[1:])) + "\n")
