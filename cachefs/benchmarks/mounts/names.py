"""Names: what it costs to look at many mounted files."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from cachefs.benchmarks.clusters import Cluster, WorkerPlan
from cachefs.benchmarks.context import Bench
from cachefs.benchmarks.measuring import THOUSAND_FILES, Contestant, Row
from cachefs.benchmarks.mounts import passing
from cachefs.benchmarks.mounts.places import (
    Mounted,
    Slot,
    mount_other,
    mount_ours,
    mounts_folder,
    need,
)
from cachefs.benchmarks.mounts.programs import list_long, stat_each
from cachefs.benchmarks.nginx import BUCKET
from cachefs.config.schema import GIB

_COUNT = 10_000
_QUICK_COUNT = 500
_DATASET = "names"


def mount_names(bench: Bench) -> list[Row]:
    """Look at 10,000 files in a new mount, by name and as `ls -l`; against mfusepy passing through."""
    need(modules=["mfusepy=mfusepy"])
    folder = _make_files(bench)
    names = sorted(path.name for path in folder.iterdir())
    place = mounts_folder(bench) / "names"
    programs = {"stat": partial(stat_each, place, names), "ls -l": partial(list_long, place)}
    rows = []
    with (
        bench.nginx(folder) as nginx,
        Cluster(bench.folder / "mount-names") as cluster,
        Slot() as slot,
    ):
        cluster.start_worker(WorkerPlan(capacity_bytes=GIB))
        cluster.add_dataset(nginx.url, f"s3://{BUCKET}/", _DATASET)
        makers: dict[str, Callable[[], Mounted]] = {
            "ours": lambda: mount_ours(bench, cluster, name="names", dataset=_DATASET),
            "mfusepy": lambda: mount_other(
                bench, passing.command("mfusepy", str(folder)), name="names"
            ),
        }
        for what, program in programs.items():
            # A new mount for each turn: the kernel remembers nothing of it.
            contestants = {
                f"{what}, {who}": Contestant(program, partial(slot.fill, make))
                for who, make in makers.items()
            }
            comparison = bench.compare(
                contestants,
                cluster=cluster,
                others=nginx.processes(),
                coming_and_going=slot.processes,
            )
            rows.append(
                comparison.row(
                    f"mount names, {what}",
                    f"{what}, ours",
                    f"{what}, mfusepy",
                    at_least=2.0,
                    unit=THOUSAND_FILES,
                )
            )
    return rows


def _make_files(bench: Bench) -> Path:
    """Make small files in one folder, unless they are there."""
    count = _QUICK_COUNT if bench.quick else _COUNT
    folder = bench.folder / f"names-{count}"
    folder.mkdir(parents=True, exist_ok=True)
    for at in range(count):
        path = folder / f"sample-{at:06}.json"
        if not path.exists():
            path.write_text(f'{{"sample": {at}}}\n')
    return folder
