"""What every scenario is given: sizes, data, an origin, turns; and what the machine is."""

import fcntl
import os
import platform
import subprocess
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

import cachefs
from cachefs.benchmarks.clusters import Cluster
from cachefs.benchmarks.measuring import Comparison, Contestant, Meter, Row, take_turns
from cachefs.benchmarks.namespaces import Machine
from cachefs.benchmarks.nginx import Nginx, find_nginx
from cachefs.benchmarks.shards import make_shards
from cachefs.config.schema import MIB
from cachefs.errors import CacheFSError, ConflictError

RUNS = 5
_SIZE = 3_000_000_000
_QUICK_SIZE = 48 * MIB
SEED = 20_250_101


class CannotRunError(CacheFSError):
    """A scenario needs something that this machine does not have."""


@dataclass(frozen=True, slots=True)
class Bench:
    """What a scenario is given."""

    folder: Path
    """For data that is kept from one run to the next, and for what the processes write."""
    quick: bool
    """Small sizes and one run: to see that a scenario works, not how fast it is."""
    say: Callable[[str], None]
    """Tells a person what happens."""
    seed: int = SEED

    @property
    def runs(self) -> int:
        """Undisturbed repetitions to take."""
        return 1 if self.quick else RUNS

    @property
    def size(self) -> int:
        """Bytes of the checkpoint."""
        return _QUICK_SIZE if self.quick else _SIZE

    def shards(self, size: int | None = None) -> list[Path]:
        """Return the files of a checkpoint, made if need be, and in the page cache."""
        size = self.size if size is None else size
        folder = self.folder / f"shards-{size}-{self.seed}"
        shard_bytes = 16 * MIB if self.quick else 500_000_000
        paths = make_shards(folder, size=size, seed=self.seed, shard_bytes=shard_bytes)
        for path in paths:
            with path.open("rb", buffering=0) as file:
                while file.read(16 * MIB):
                    pass
        return paths

    def nginx(
        self,
        files: Path,
        name: str = "nginx",
        *,
        machine: Machine | None = None,
        aliases: Mapping[str, Path] | None = None,
        digests: Mapping[str, str] | None = None,
    ) -> Nginx:
        """Start an nginx over a folder; the options are its own.

        Raises:
            CannotRunError: It is not installed.
        """
        if find_nginx() is None:
            raise CannotRunError("nginx is not installed (apt-get install nginx-light)")
        return Nginx(files, self.folder / name, machine=machine, aliases=aliases, digests=digests)

    def compare(
        self,
        contestants: dict[str, Contestant],
        *,
        cluster: Cluster | None,
        others: Sequence[int],
        coming_and_going: Callable[[], Iterable[psutil.Process]] = tuple,
    ) -> Comparison:
        """Run contestants in turns.

        Args:
            contestants: By name.
            cluster: Its processes are ours.
            others: Further processes of ours.
            coming_and_going: Returns those that are not the same in each turn.
        """
        ids = [*others, *(process.pid for process in (cluster.processes() if cluster else []))]
        meter = Meter([psutil.Process(each) for each in ids], coming_and_going)
        return take_turns(contestants, runs=self.runs, meter=meter, warm_up=not self.quick)


@contextmanager
def own(folder: Path) -> Iterator[None]:
    """Keep a folder to ourselves: two benchmarks in one would remove each other's files.

    Raises:
        ConflictError: Another benchmark uses it.
    """
    lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConflictError(
                "another benchmark uses the folder",
                subject=str(folder),
                hint="wait for it, or give --folder",
            ) from None
        yield
    finally:
        os.close(lock)


Scenario = Callable[[Bench], list[Row]]


def machine() -> list[tuple[str, str]]:
    """Describe what is measured, and on what."""
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    memory = psutil.virtual_memory().total / 2**30
    return [
        ("machine", f"{os.cpu_count()} cores of {model}, {memory:.0f} GiB, {platform.release()}"),
        ("python", platform.python_version()),
        ("commit", _commit()),
        ("version", cachefs.__version__),
    ]


def _commit() -> str:
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:
        return "unknown"
    return answer.stdout.strip() or "unknown"
