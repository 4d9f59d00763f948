"""Hints against what happened: three nodes behind links of different speed, and jobs that load there.

Each job asks for a hint of one node, is started on that node as a process of its own, loads a dataset
into memory, and tells how long it took from its start. What the hints reckon with is what somebody who
set the cluster up would have written down: the links' nominal speeds. The rest they learn.

As a program (``python -m cachefs.benchmarks.outcomes STATE DATASET``) it is such a job.
"""

import random
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from cachefs.benchmarks.clusters import Cluster, WorkerPlan, pause
from cachefs.benchmarks.context import Bench, CannotRunError
from cachefs.benchmarks.measuring import Row
from cachefs.benchmarks.namespaces import Machine, Network, why_not
from cachefs.benchmarks.nginx import BUCKET
from cachefs.benchmarks.shards import make_shards
from cachefs.config.schema import GIB, MIB, HintsConfig, ReaderConfig
from cachefs.errors import CacheFSError
from cachefs.sdk import open_dataset
from cachefs.sdk.safetensors import load_file

_NODE_BITS = (1_000_000_000, 500_000_000, 250_000_000)
_ORIGIN_BITS = 300_000_000
_SIZES = (200_000_000, 100_000_000, 50_000_000)
_JOBS_BEFORE = 20
"""Outcomes to learn from."""
_JOBS_AFTER = 20
"""Outcomes that are measured."""
_COLD_SHARE = 0.3
"""Of the jobs that find nothing in the cache."""
_JOB_SECONDS = 120.0
_NEWS_SECONDS = 1.5
"""A hint is at most a second behind the workers."""


def hint_outcomes(bench: Bench) -> list[Row]:
    """Compare hints with what happened: jobs on three nodes with links of their own, after 20 outcomes."""
    reason = why_not()
    if reason:
        raise CannotRunError(reason)
    draw = random.Random(bench.seed)
    sizes = [2 * MIB] if bench.quick else list(_SIZES)
    folder = bench.folder / f"outcomes-{sum(sizes)}-{bench.seed}"
    names = [f"model-{at}" for at in range(len(sizes))]
    for name, size in zip(names, sizes, strict=True):
        make_shards(folder / name, size=size, seed=bench.seed, shard_bytes=size)
    with Network() as network:
        origin = network.add("origin", bits_rate=_ORIGIN_BITS)
        machines = [network.add(f"n{at}", bits_rate=bits) for at, bits in enumerate(_NODE_BITS)]
        hints = HintsConfig(origin_bytes_rate=_ORIGIN_BITS / 8)
        with (
            bench.nginx(folder, machine=origin) as nginx,
            Cluster(bench.folder / "outcomes", host=network.address, hints=hints) as cluster,
        ):
            for machine, bits in zip(machines, _NODE_BITS, strict=True):
                cluster.start_worker(_plan(machine, sum(sizes), bits))
            for name in names:
                cluster.add_dataset(nginx.url, f"s3://{BUCKET}/{name}/", name)
            jobs = 1 if bench.quick else _JOBS_BEFORE
            before = _errors(cluster, machines, names, jobs, draw)
            jobs = 1 if bench.quick else _JOBS_AFTER
            after = _errors(cluster, machines, names, jobs, draw)
    limit = 0.25
    error = statistics.median(after)
    return [
        Row(
            scenario="hint against outcome, error",
            value=error,
            unit="of the estimate, median",
            against=f"limit {limit:g}",
            ratio=limit / max(error, 1e-3),
            at_least=1.0,
            runs=len(after),
            spread=max(after) - min(after),
            note=f"{statistics.median(before):.2f} among the first {len(before)}",
        )
    ]


def _plan(machine: Machine, size: int, bits: int) -> WorkerPlan:
    return WorkerPlan(
        name=machine.name,
        capacity_bytes=size + GIB,
        host=machine.address,
        command_prefix=machine.command_prefix,
        node_name=machine.name,
        link_bytes_rate=bits / 8,
    )


def _errors(
    cluster: Cluster,
    machines: Sequence[Machine],
    names: Sequence[str],
    jobs: int,
    draw: random.Random,
) -> list[float]:
    """Run jobs one after the other; return how far off each one's hint was, as a share."""
    errors = []
    for _ in range(jobs):
        name, machine = draw.choice(names), draw.choice(machines)
        if draw.random() < _COLD_SHARE:
            cluster.evict(name)
        pause(_NEWS_SECONDS)
        question = {"datasets": [{"name": name}], "candidates": [machine.name], "limit": 1}
        hint = cluster.api.post("/v1/hints", question)
        estimated = hint["nodes"][0]["ready_s"]["p50"]
        actual = _run(machine, cluster.folder, name)
        outcome = {"node": machine.name, "ready_s": actual}
        cluster.api.post(f"/v1/hints/{hint['hint_id']}/outcome", outcome)
        errors.append(abs(actual - estimated) / actual)
    return errors


def _run(machine: Machine, state: Path, name: str) -> float:
    """Run a job on a machine; return the seconds from its start to its end."""
    command = (sys.executable, "-m", "cachefs.benchmarks.outcomes", str(state), name)
    began = time.perf_counter()
    done = subprocess.run(
        [*machine.command_prefix, *command], timeout=_JOB_SECONDS, check=False, capture_output=True
    )
    if done.returncode:
        raise CacheFSError("a job failed", hint=done.stderr.decode(errors="replace")[-500:])
    return time.perf_counter() - began


def _load(state: str, name: str) -> None:
    # All machines of the benchmark see one file system: on others there is no socket to be found.
    with open_dataset(name, state=Path(state), config=ReaderConfig(local=False)) as dataset:
        load_file("", dataset=dataset, framework="numpy")


if __name__ == "__main__":
    _load(*sys.argv[1:])
