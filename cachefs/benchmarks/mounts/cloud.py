"""The same bucket mounted by us, by rclone and by s3fs: cold, and once more.

Of each rival the faster configuration is measured, which a first round finds out.
"""

import os
import shutil
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import psutil

from cachefs.benchmarks.clusters import Cluster, WorkerPlan
from cachefs.benchmarks.context import Bench
from cachefs.benchmarks.floors import back_free_memory
from cachefs.benchmarks.measuring import Comparison, Contestant, Row, cpu_seconds_of, spread
from cachefs.benchmarks.mounts.places import (
    Mounted,
    Slot,
    mount_other,
    mount_ours,
    mounts_folder,
    need,
)
from cachefs.benchmarks.mounts.programs import read_in_order
from cachefs.benchmarks.mounts.rivals import Rival, rivals
from cachefs.benchmarks.mounts.whole import files_of
from cachefs.benchmarks.nginx import BUCKET
from cachefs.benchmarks.shards import total_size
from cachefs.config.schema import GIB

_OURS = "ours"
_READINGS = ("cold", "warm")
_TICK_SECONDS = 1 / os.sysconf("SC_CLK_TCK")
"""What the kernel counts processor time in: less than one of it may be shown as nothing."""


class _Costs:
    """The processor time of the mounts' own processes, by contestant."""

    def __init__(self) -> None:
        self.processes: list[psutil.Process] = []
        """Of the mount that is being read."""
        self._shares: dict[str, list[float]] = {}

    def counted(self, name: str, run: Callable[[], int]) -> Callable[[], int]:
        """Return a run that also counts."""

        def counting() -> int:
            before = cpu_seconds_of(self.processes)
            size = run()
            spent = cpu_seconds_of(self.processes) - before
            self._shares.setdefault(name, []).append(max(spent, _TICK_SECONDS) / (size / GIB))
            return size

        return counting

    def per_gib(self, name: str) -> list[float]:
        """Return the CPU seconds for each GiB, of each turn."""
        return self._shares[name]


def mount_cloud(bench: Bench) -> list[Row]:
    """Read mounted files cold from S3, then warm; against rclone mount and s3fs-fuse."""
    need(programs=["rclone", "s3fs"])
    paths = bench.shards()
    size = total_size(paths)
    costs = _Costs()
    with (
        bench.nginx(paths[0].parent) as nginx,
        Cluster(bench.folder / "mount-cloud") as cluster,
        _rivals(bench, nginx.url) as known,
        Slot() as slot,
    ):
        cluster.start_worker(WorkerPlan(capacity_bytes=size + 2 * GIB))
        cluster.add_dataset(nginx.url, f"s3://{BUCKET}/")
        files = [mounts_folder(bench) / "cloud" / path.name for path in paths]

        def start(rival: Rival | None, *, warm: bool = False) -> None:
            """Mount anew, cold; for a warm reading, read once before."""
            slot.empty()
            if rival is None:
                cluster.evict()
            else:
                rival.forget()
            os.sync()
            back_free_memory(size)
            slot.fill(partial(_mount, bench, cluster, rival))
            costs.processes = slot.processes()
            if warm:
                read_in_order(files)

        def check() -> None:
            files_of(slot.mounted, paths)

        start(None)
        check()
        chosen = _choose(bench, known, start, files, check)
        turns = {
            f"{rival.name if rival else _OURS}, {reading}": (rival, reading == "warm")
            for reading in _READINGS
            for rival in (None, *chosen)
        }
        contestants = {
            name: Contestant(
                costs.counted(name, partial(read_in_order, files)), partial(start, rival, warm=warm)
            )
            for name, (rival, warm) in turns.items()
        }
        comparison = bench.compare(
            contestants,
            cluster=cluster,
            others=nginx.processes(),
            coming_and_going=slot.processes,
        )
    return _rows(comparison, costs, chosen)


@contextmanager
def _rivals(bench: Bench, endpoint: str) -> Iterator[dict[str, Rival]]:
    """Return the rivals by name; their caches are removed in the end."""
    folder = bench.folder / "mount-caches"
    folder.mkdir(parents=True, exist_ok=True)
    try:
        yield {rival.name: rival for rival in rivals(endpoint, folder)}
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _mount(bench: Bench, cluster: Cluster, rival: Rival | None) -> Mounted:
    if rival is None:
        return mount_ours(bench, cluster, name="cloud")
    return mount_other(bench, rival.words, name="cloud")


def _choose(
    bench: Bench,
    known: dict[str, Rival],
    start: Callable[[Rival], None],
    files: Sequence[Path],
    check: Callable[[], None],
) -> list[Rival]:
    """Return the configuration of each program that is fastest, cold and warm together."""
    seconds: dict[str, float] = {}
    for name, rival in known.items():
        start(rival)
        for reading in _READINGS:
            began = time.perf_counter()
            read_in_order(files)
            taken = time.perf_counter() - began
            seconds[name] = seconds.get(name, 0.0) + taken
            bench.say(f"{name}, {reading}: {taken:.1f} s")
        check()
    fastest: dict[str, Rival] = {}
    for name in sorted(known, key=lambda name: seconds[name]):
        fastest.setdefault(known[name].program, known[name])
    return [fastest[program] for program in sorted(fastest)]


def _rows(comparison: Comparison, costs: _Costs, chosen: list[Rival]) -> list[Row]:
    rows = []
    for reading in _READINGS:
        ours = f"{_OURS}, {reading}"
        theirs = [f"{rival.name}, {reading}" for rival in chosen]
        for rival, their in zip(chosen, theirs, strict=True):
            scenario = f"mount {reading}, {rival.program}"
            rows.append(comparison.row(scenario, ours, their, at_least=1.0))
        rows.append(_cost_row(f"mount {reading}, CPU", costs, ours, theirs))
    return rows


def _cost_row(scenario: str, costs: _Costs, ours: str, theirs: list[str]) -> Row:
    """Compare with whichever of the others costs least."""
    unit = "CPU s per GiB"
    cheapest = min(theirs, key=lambda name: statistics.median(costs.per_gib(name)))
    pairs = zip(costs.per_gib(ours), costs.per_gib(cheapest), strict=True)
    ratios = [their / our for our, their in pairs]
    limit = statistics.median(costs.per_gib(cheapest))
    return Row(
        scenario=scenario,
        value=statistics.median(costs.per_gib(ours)),
        unit=unit,
        against=f"{cheapest} ({limit:.3g} {unit})",
        ratio=statistics.median(ratios),
        at_least=1.0,
        runs=len(ratios),
        spread=spread(ratios),
        note="of the mounts' own processes",
    )
