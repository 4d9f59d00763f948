"""A whole cluster in one thread: coordinator, workers, readers, an origin, and what may befall them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from random import Random

from cachefs.client.reader import Reader
from cachefs.config.schema import ClusterConfig, FillConfig, ReaderConfig, TierConfig
from cachefs.core import placement
from cachefs.core.blocks import BlockId, FileVersionId, block_count
from cachefs.core.names import WorkerId
from cachefs.ports import FileRef
from cachefs.testing.disk import DiskFaults
from cachefs.testing.network import SimNetwork
from cachefs.testing.runtime import SimRuntime
from cachefs.testing.sim_coordinator import ADDRESS, Directory, SimCoordinator, SimMetadata
from cachefs.testing.sim_origin import OriginFaults, SimOrigin
from cachefs.testing.sim_worker import SimWorker, WorkerParts

BLOCK_BYTES = 4096
"""One page, the smallest unit that a tier counts in."""
CLUSTER = ClusterConfig(block_size=BLOCK_BYTES, lease_seconds=4.0)
FILL = FillConfig(
    inflight_fills_limit=4,
    attempts_limit=3,
    backoff_seconds=0.1,
    failure_memory_seconds=0.5,
    peer_timeout_seconds=1.0,
    fill_seconds=8.0,
    uncached_blocks_limit=4,
)
READER = ReaderConfig(
    deadline_seconds=10.0,
    stall_seconds=2.5,
    hedge_seconds_min=0.02,
    view_seconds=1.0,
    local=False,
    readahead_bytes=4 * BLOCK_BYTES,
    block_cache_bytes=8 * BLOCK_BYTES,
)
"""Everything quicker than in production, in the same proportions."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterPlan:
    """How a cluster is made."""

    workers: int
    readers: int
    replicas: int
    capacity_blocks: int
    """Of each worker."""
    eviction: str
    files: Mapping[str, bytes]
    with_digests: bool = False
    """Whether what the files must hash to is known beforehand."""
    cluster: ClusterConfig = CLUSTER
    fill: FillConfig = FILL
    reader: ReaderConfig = READER


@dataclass(frozen=True, slots=True)
class Parts:
    """The classes a cluster is built of, so that a test can put a broken one in."""

    reader: type[Reader] = Reader
    worker: WorkerParts = field(default_factory=WorkerParts)


class SimReader:
    """A process that reads."""

    def __init__(self, name: str, cluster: "SimCluster", parts: Parts) -> None:
        """Start the process, and a reader in it."""
        self.process = cluster.world.process(name)
        self.reader = parts.reader(
            self.process,
            cluster.plan.reader,
            cluster.plan.cluster,
            metadata=SimMetadata(self.process, cluster.network, cluster.directory),
            blocks=cluster.network.source(self.process),
        )


class SimCluster:
    """All processes, the network between them, and the switches that break them."""

    def __init__(self, seed: int, plan: ClusterPlan, parts: Parts) -> None:
        """Build it; nothing runs yet."""
        self.plan = plan
        self.world = SimRuntime(seed)
        self.random = Random(f"cluster {seed}")
        self.network = SimNetwork(self.random, stall_seconds=plan.reader.stall_seconds)
        self.directory: Directory = {}
        self.origin = SimOrigin(plan.files, self.random, with_digests=plan.with_digests)
        self.coordinator = SimCoordinator(
            self.world, self.network, plan.cluster, self.origin, replicas=plan.replicas
        )
        self.directory[ADDRESS] = self.coordinator
        self.truth: dict[FileVersionId, bytes] = {}
        """What each file version must read as."""
        self._learn_truth()
        self._parts = parts
        self.workers: dict[str, SimWorker] = {}
        for number in range(plan.workers):
            self.add_worker(f"worker-{number}")
        self.readers: list[SimReader] = []
        for _ in range(plan.readers):
            self.add_reader()

    def _learn_truth(self) -> None:
        current = self.coordinator.known_version(None)
        for entry in current.manifest.files:
            self.truth[entry.file_version] = self.origin.memory.files[entry.path]

    def add_worker(self, name: str) -> SimWorker:
        """Make a worker with an empty drive."""
        capacity = self.plan.capacity_blocks * BLOCK_BYTES
        tier = TierConfig(
            folder=Path("/tier"),
            medium="disk",
            capacity_bytes=capacity,
            high_mark=0.95,
            low_mark=0.7,
            eviction=self.plan.eviction,
        )
        worker = self.workers[name] = SimWorker(
            name,
            world=self.world,
            network=self.network,
            directory=self.directory,
            coordinator=self.coordinator,
            origin=self.origin,
            cluster=self.plan.cluster,
            fill=self.plan.fill,
            tier=tier,
            random=self.random,
            parts=self._parts.worker,
        )
        return worker

    def add_reader(self) -> int:
        """Start a process that reads; return its place in :attr:`readers`."""
        self.readers.append(SimReader(f"reader-{len(self.readers)}", self, self._parts))
        return len(self.readers) - 1

    def start(self) -> None:
        """Start the coordinator and all workers."""
        self.coordinator.start()
        for worker in self.workers.values():
            worker.start()

    def warm(self, job: str) -> None:
        """Have every worker that runs fill the blocks of the current version that it shall hold."""
        version = self.coordinator.known_version(None)
        view = self.coordinator.known_view()
        for worker in self.workers.values():
            wanted: dict[FileRef, list[int]] = {}
            for entry in version.manifest.files:
                for index in range(block_count(entry.size, BLOCK_BYTES)):
                    holders = placement.owners(
                        BlockId(entry.file_version, index),
                        view.members,
                        pool=version.pool,
                        replicas=version.replicas,
                    )
                    if any(member.worker == worker.name for member in holders):
                        wanted.setdefault(version.file(entry), []).append(index)
            if worker.filler is not None and worker.process is not None and wanted:
                worker.process.start("warm", partial(worker.warm, job, wanted))

    def update_dataset(self) -> None:
        """Write new content to some file at the origin; nobody has listed it yet."""
        files = self.origin.memory.files
        path = self.random.choice(sorted(files))
        size = self.random.choice((len(files[path]), self.random.randrange(1, 5 * BLOCK_BYTES)))
        self.origin.memory.put(path, self.random.randbytes(size))

    def list_origin(self) -> None:
        """Make what the origin holds the current version."""
        self.coordinator.update()
        self._learn_truth()

    def mend(self) -> None:
        """End every fault, and start whoever is dead."""
        self.network.heal()
        self.origin.faults = OriginFaults()
        self.list_origin()
        if self.coordinator.process is None:
            self.coordinator.start()
        for worker in self.workers.values():
            worker.drive.faults = DiskFaults()
            if worker.process is None:
                worker.start()
            elif worker.process.stopped:
                worker.process.resume()
        self.network.without_power.clear()

    def close(self) -> None:
        """End all processes in good order; from a task."""
        for one in self.readers:
            one.process.start("close", one.reader.close).join()
        for worker in self.workers.values():
            worker.close()
        self.coordinator.kill()

    def drain(self, name: str) -> None:
        """Take away what a worker owns; it goes on serving."""
        self.coordinator.drain(WorkerId(name))
