"""What loading costs besides time: the bytes that a rank reads, and memory at its peak.

As a program (``python -m cachefs.benchmarks.loaders.costs STATE BUDGET``) it loads the checkpoint into
memory of its own, with a budget unless that is 0, and prints the peak in bytes.
"""

import importlib
import subprocess
import sys
from pathlib import Path

from cachefs.benchmarks.clusters import DATASET, Cluster
from cachefs.benchmarks.context import Bench
from cachefs.benchmarks.loaders.node import start
from cachefs.benchmarks.loaders.rivals import framework, size_of
from cachefs.benchmarks.measuring import Row, limit_row
from cachefs.config.schema import MIB
from cachefs.sdk import open_dataset
from cachefs.sdk.safetensors import iter_tensors, rank_slices, safe_open

_RANKS = 4
_BYTES_LIMIT = 1.02
_MEMORY_LIMIT = 1.05
_BUDGET_BYTES = 256 * MIB
_QUICK_BUDGET_BYTES = 40 * MIB
"""Must hold two tensors; the largest of the small checkpoint is 16 MiB."""
_STATUS = Path("/proc/self/status")


def load_costs(bench: Bench) -> list[Row]:
    """Count the bytes that rank 0 of 4 reads, and the memory that loading takes at its peak."""
    budget = _QUICK_BUDGET_BYTES if bench.quick else _BUDGET_BYTES
    with Cluster(bench.folder / "load-costs") as cluster:
        start(cluster, bench)
        ratio = _rank_ratio(cluster.folder)
        peak = _peak(cluster.folder, 0)
        streaming = _peak(cluster.folder, budget)
    return [
        limit_row(
            "load, rank 0 of 4",
            [ratio],
            "bytes read per byte needed",
            limit=_BYTES_LIMIT,
            note="headers included",
        ),
        limit_row(
            "load, peak memory", [peak / bench.size], "of the checkpoint", limit=_MEMORY_LIMIT
        ),
        limit_row("load, peak memory, budget", [streaming / budget], "of the budget", limit=1.0),
    ]


def _rank_ratio(state: Path) -> float:
    with open_dataset(DATASET, state=state) as dataset:
        with safe_open("", framework(), dataset=dataset) as model:
            names = model.keys()
            shapes = {name: model.get_slice(name).get_shape() for name in names}
        before = sum(dataset.statistics().bytes_by_source.values())
        plan = {
            name: rank_slices(shape, rank=0, ranks=_RANKS)
            for name, shape in shapes.items()
            if shape[0] % _RANKS == 0
        }
        tensors = dict(
            iter_tensors("", dataset=dataset, framework=framework(), plan=plan, backend="pread")
        )
        read = sum(dataset.statistics().bytes_by_source.values()) - before
    return read / size_of(tensors)


def _peak(state: Path, budget: int) -> int:
    command = [sys.executable, "-m", "cachefs.benchmarks.loaders.costs", str(state), str(budget)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return int(done.stdout)


def _memory(field: str) -> int:
    """Return a field of this process's status, in bytes."""
    (line,) = (line for line in _STATUS.read_text().splitlines() if line.startswith(field + ":"))
    return int(line.split()[1]) * 1024


def _print_peak(state: Path, budget: int) -> None:
    """Load everything, and print the peak of resident memory above what it was before."""
    importlib.import_module("torch" if framework() == "pt" else "ml_dtypes")
    with open_dataset(DATASET, state=state) as dataset:
        before = _memory("VmRSS")
        tensors = iter_tensors(
            "",
            dataset=dataset,
            framework=framework(),
            backend="pread",
            budget_bytes=budget or None,
        )
        kept = []
        for _, tensor in tensors:
            if not budget:
                kept.append(tensor)
            del tensor
    sys.stdout.write(f"{_memory('VmHWM') - before}\n")


if __name__ == "__main__":
    _print_peak(Path(sys.argv[1]), int(sys.argv[2]))
