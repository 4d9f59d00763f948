"""Footprints: a worker's memory, and what an import and ``--help`` cost."""

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

from cachefs.benchmarks.clusters import DATASET, Cluster, WorkerPlan
from cachefs.benchmarks.context import Bench
from cachefs.benchmarks.measuring import Row, limit_row
from cachefs.benchmarks.nginx import BUCKET
from cachefs.benchmarks.readers import finish_reader, start_reader
from cachefs.benchmarks.shards import total_size
from cachefs.config.schema import MIB

_MEMORY_BYTES = 10_000_000_000
_MEMORY_LIMIT_MB = 300.0
_SAMPLE_SECONDS = 0.1
_READERS = 2
_IMPORT_LIMIT_MS = 150.0
_HELP_LIMIT_MS = 400.0
_FRESH_PROCESSES = 10


def memory(bench: Bench) -> list[Row]:
    """Serve 10 GB to two readers while filling them into a tier that holds a third of them."""
    paths = bench.shards()
    wanted = bench.size if bench.quick else _MEMORY_BYTES
    copies = -(-wanted // total_size(paths))
    linked = _linked_copies(bench.folder / "memory-files", paths, copies)
    size = copies * total_size(paths)
    with (
        bench.nginx(linked) as nginx,
        Cluster(bench.folder / "memory") as cluster,
    ):
        worker = cluster.start_worker(WorkerPlan(capacity_bytes=max(size // 3, 256 * MIB)))
        cluster.add_dataset(nginx.url, f"s3://{BUCKET}/")
        sampler = _Sampler(worker.pid)
        readers = [start_reader(cluster.folder, DATASET, local=False) for _ in range(_READERS)]
        reports = [finish_reader(reader) for reader in readers]
        peak = sampler.stop()
    served = sum(report["size"] for report in reports)
    row = limit_row(
        "memory",
        [peak / 1e6],
        "MB",
        limit=_MEMORY_LIMIT_MB,
        note=f"peak of the worker's own memory, filling {size / 1e9:.1f} and serving "
        f"{served / 1e9:.1f} GB in {max(report['seconds'] for report in reports):.0f} s",
    )
    return [row]


class _Sampler:
    """Watches a process's own memory: file pages of the cache are the kernel's, not its own."""

    def __init__(self, pid: int) -> None:
        self._status = Path(f"/proc/{pid}/status")
        self._peak = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        while not self._ended.wait(_SAMPLE_SECONDS):
            for line in self._status.read_text().splitlines():
                if line.startswith("RssAnon:"):
                    self._peak = max(self._peak, int(line.split()[1]) * 1024)

    def stop(self) -> int:
        """Return the peak, in bytes."""
        self._ended.set()
        self._thread.join()
        return self._peak


def _linked_copies(folder: Path, paths: list[Path], copies: int) -> Path:
    """Show the same shards under several names: to the cache they are different files."""
    for copy in range(copies):
        (folder / f"copy-{copy}").mkdir(parents=True, exist_ok=True)
        for path in paths:
            link = folder / f"copy-{copy}" / path.name
            link.unlink(missing_ok=True)
            os.link(path, link)
    return folder


def imports(bench: Bench) -> list[Row]:
    """Start fresh interpreters: nothing is subtracted."""
    count = 3 if bench.quick else _FRESH_PROCESSES
    bare = _milliseconds([sys.executable, "-c", "pass"], count)
    note = f"a bare interpreter takes {sorted(bare)[count // 2]:.0f} ms"
    sdk = _milliseconds([sys.executable, "-c", "import cachefs.sdk"], count)
    help_text = _milliseconds([sys.executable, "-m", "cachefs.cli", "--help"], count)
    return [
        limit_row("import cachefs.sdk", sdk, "ms", limit=_IMPORT_LIMIT_MS, note=note),
        limit_row("cachefs --help", help_text, "ms", limit=_HELP_LIMIT_MS, note=note),
    ]


def _milliseconds(command: list[str], count: int) -> list[float]:
    taken = []
    for _ in range(count + 1):
        started = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        taken.append((time.perf_counter() - started) * 1000)
    return taken[1:]  # the first one reads the files from disk, or compiles them
