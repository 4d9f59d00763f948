"""Many files: what a dataset of 100,000 costs to list, to show and to come back to."""

import os
import subprocess
import sys
import time
from pathlib import Path

from cachefs.benchmarks.clusters import Cluster, WorkerPlan
from cachefs.benchmarks.context import Bench
from cachefs.benchmarks.measuring import Row, limit_row
from cachefs.benchmarks.nginx import BUCKET
from cachefs.config.schema import GIB
from cachefs.errors import CacheFSError

_COUNT = 100_000
_FOLDERS = 10
_SECONDS_LIMIT = 10.0
"""What "in seconds" means here."""
_LINEAR = 0.8
"""A tenth of the files may take at most an eighth of the time."""


def files(bench: Bench) -> list[Row]:
    """Take the times of a dataset and of one with a tenth of its files."""
    count = 1000 if bench.quick else _COUNT
    few = _measure(bench, count // 10)
    many = _measure(bench, count)
    rows = []
    for name, seconds in many.items():
        limit = limit_row(f"files, {name}", [seconds], "s", limit=_SECONDS_LIMIT)
        linear = Row(
            scenario=f"files, {name}, linear",
            value=seconds / few[name],
            unit="times",
            against=f"a tenth of the files ({few[name]:.2f} s)",
            ratio=10 * few[name] / seconds,
            at_least=_LINEAR,
            runs=1,
            spread=0.0,
        )
        rows += [limit, linear]
    return rows


def _measure(bench: Bench, count: int) -> dict[str, float]:
    folder = _make_files(bench.folder / f"files-{count}", count)
    name = "many"
    with (
        bench.nginx(folder) as nginx,
        Cluster(bench.folder / "files") as cluster,
    ):
        plan = WorkerPlan(capacity_bytes=2 * GIB)
        cluster.start_worker(plan)
        taken = {}
        started = time.perf_counter()
        cluster.add_dataset(nginx.url, f"s3://{BUCKET}/", name)
        taken["add"] = time.perf_counter() - started
        taken["ls"] = _list(cluster.folder, name, count)
        taken["restart of the coordinator"] = cluster.restart_coordinator()
        taken["ls after it"] = _list(cluster.folder, name, count)
        bench.say(f"files: filling a tenth of {count}")
        seconds = cluster.warm(name, paths=["part-0"])
        bench.say(f"files: {count // _FOLDERS / seconds:.0f} small files a second")
        taken["restart of a worker that holds a tenth"] = cluster.restart_worker(plan)
    return taken


def _list(state: Path, name: str, count: int) -> float:
    """Run ``cachefs ls`` in a fresh process; return its seconds."""
    command = [sys.executable, "-m", "cachefs.cli", "ls", name, "--recursive"]
    started = time.perf_counter()
    done = subprocess.run(
        command,
        env={**os.environ, "CACHEFS_STATE": str(state)},
        capture_output=True,
        text=True,
        check=False,
    )
    seconds = time.perf_counter() - started
    if done.returncode or len(done.stdout.splitlines()) < count:
        raise CacheFSError("`cachefs ls` did not list all files", hint=done.stderr[-300:])
    return seconds


def _make_files(folder: Path, count: int) -> Path:
    """Make small files in a few folders, unless they are there."""
    marker = folder.with_suffix(".whole")
    if marker.exists():
        return folder
    for at in range(count):
        part = folder / f"part-{at * _FOLDERS // count}"
        if at % (count // _FOLDERS) == 0:
            part.mkdir(parents=True, exist_ok=True)
        (part / f"sample-{at:06}.json").write_text(f'{{"sample": {at}}}\n')
    marker.touch()
    return folder
