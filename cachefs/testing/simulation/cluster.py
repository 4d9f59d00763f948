"""A whole cluster in one thread: coordinator, workers, readers, an origin, and what may befall them."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from random import Random

from cachefs.client.reader import Reader
from cachefs.core import placement
from cachefs.core.blocks import BlockId, FileVersionId, block_count
from cachefs.core.membership import View
from cachefs.core.names import WorkerId
from cachefs.errors import CacheFSError, ConflictError, NotKnownError
from cachefs.ports import FileRef, ResolvedVersion
from cachefs.testing.simulation.processes.coordinator import Coordinating, SimCoordinator
from cachefs.testing.simulation.processes.reader import SimReader
from cachefs.testing.simulation.processes.stored_coordinator import StoredCoordinator
from cachefs.testing.simulation.processes.worker import Place, SimWorker, Surroundings, WorkerParts
from cachefs.testing.simulation.topology import BLOCK_BYTES, ClusterPlan, tiers_of
from cachefs.testing.simulation.watching import Watch
from cachefs.testing.simulation.world.control import Directory
from cachefs.testing.simulation.world.drive import DiskFaults
from cachefs.testing.simulation.world.local import SimSockets
from cachefs.testing.simulation.world.network import SimNetwork
from cachefs.testing.simulation.world.origin import OriginFaults, SimOrigin
from cachefs.testing.simulation.world.runtime import SimRuntime
from cachefs.testing.simulation.world.scheduling import SimTask
from cachefs.transport.local import LocalNode

DRAIN_POLL_SECONDS = 0.5
"""How often a drain is asked how far it has come."""
DRAIN_ATTEMPTS_LIMIT = 200
"""So often, then nobody asks any more."""


@dataclass(frozen=True, slots=True)
class Parts:
    """The classes a cluster is built of, so that a test can put a broken one in."""

    reader: type[Reader] = Reader
    worker: WorkerParts = field(default_factory=WorkerParts)
    local: type[LocalNode] = LocalNode


@dataclass(slots=True)
class DrainRecord:
    """A drain that was begun."""

    worker: str
    began: float
    held: frozenset[BlockId]
    """What the worker held then."""
    done: bool = False


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
        self.around = Surroundings(
            world=self.world,
            network=self.network,
            directory=self.directory,
            sockets=SimSockets(),
            origin=self.origin,
            cluster=plan.cluster,
            fill=plan.fill,
            heat=plan.heat,
            random=self.random,
        )
        make: Callable[[ClusterPlan, Surroundings], Coordinating]
        make = StoredCoordinator if plan.stored else SimCoordinator
        self.coordinator = make(plan, self.around)
        self.truth: dict[FileVersionId, bytes] = {}
        """What each file version must read as."""
        self._learn_truth()
        self.watch = Watch(self.world)
        self.drains: list[DrainRecord] = []
        self.retired: set[str] = set()
        """Workers that were drained and ended, and are not started again."""
        self._mended = False
        self._tasks: list[SimTask] = []
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
        """Make a worker with empty drives."""
        plan, number = self.plan, len(self.workers)
        place = Place(
            node=f"node-{number % plan.nodes}",
            zone=f"zone-{number % plan.zones}" if plan.zones > 1 else "",
            tiers=tiers_of(
                plan.capacity_blocks * BLOCK_BYTES,
                memory_bytes=plan.memory_blocks * BLOCK_BYTES,
                eviction=plan.eviction,
                marks=plan.marks,
            ),
            scrub_seconds=plan.scrub_seconds,
        )
        worker = self.workers[name] = SimWorker(name, place, self.around, self._parts.worker)
        worker.on_store = partial(self.watch.store, name)
        return worker

    def add_reader(self) -> int:
        """Start a process that reads; return its place in :attr:`readers`."""
        number = len(self.readers)
        node = f"node-{number % self.plan.nodes}"
        parts = self._parts
        reader = SimReader(
            f"reader-{number}", node, self.plan, self.around, parts.reader, parts.local
        )
        self.readers.append(reader)
        return number

    def crash(self, one: SimReader) -> None:
        """End a reader's process at once, and start another."""
        one.process.kill()
        self.around.sockets.hang_up(one.process)
        self.add_reader()

    def start(self) -> None:
        """Start the coordinator and all workers."""
        self.coordinator.start()
        for worker in self.workers.values():
            worker.start()

    def view(self) -> View:
        """Return who is a member."""
        return self.coordinator.known_view()

    def owners(self, version: ResolvedVersion, block: BlockId) -> list[str]:
        """Return the names of the workers that shall hold a block."""
        members = placement.owners(
            block, self.view().members, pool=version.pool, replicas=version.replicas
        )
        return [member.worker for member in members]

    def warm(self, job: str) -> None:
        """Have every worker that runs fill the blocks of the current version that it shall hold."""
        if self.coordinator.warm():
            return
        version = self.coordinator.known_version(None)
        wanted: dict[str, dict[FileRef, list[int]]] = {}
        for entry in version.manifest.files:
            for index in range(block_count(entry.size, BLOCK_BYTES)):
                for name in self.owners(version, BlockId(entry.file_version, index)):
                    files = wanted.setdefault(name, {})
                    files.setdefault(version.file(entry), []).append(index)
        for name, worker in self.workers.items():
            if worker.ready and worker.process and worker.serving and name in wanted:
                worker.process.start("warm", partial(worker.serving.warm, job, wanted[name]))

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
        self._mended = True
        self.network.heal()
        self.origin.faults = OriginFaults()
        self.list_origin()
        if self.coordinator.process is None:
            self.coordinator.start()
        draining = {record.worker for record in self.drains} - self.retired
        for name, worker in self.workers.items():
            for drive in worker.drives.values():
                drive.faults = DiskFaults()
            if name in draining:
                # Who has been drained never comes back by itself; its successor does.
                worker.kill()
            if worker.process is None and name not in self.retired:
                worker.start()
            elif worker.process is not None and worker.process.stopped:
                worker.process.resume()
        processes = [one.process for one in self.readers]
        processes += [worker.process for worker in self.workers.values() if worker.process]
        for process in processes:
            process.skew_seconds = 0.0
        self.network.without_power.clear()

    def close(self) -> None:
        """End all processes in good order; from a task."""
        for task in self._tasks:
            task.join()
        for one in self.readers:
            if not one.process.dead:
                one.process.start("close", one.close).join()
        for worker in self.workers.values():
            worker.close()
        self.coordinator.kill()

    def drain(self, name: str) -> SimTask | None:
        """Have a worker hand over what it holds, and end it then; ``None`` if nobody can say so."""
        process, store = self.coordinator.process, self.workers[name].store
        if process is None or process.stopped or store is None:
            return None
        held = frozenset(store.resident_blocks())
        record = DrainRecord(name, self.world.monotonic(), held)
        self.drains.append(record)
        task = process.start(f"drain {name}", lambda: self._drain(process, record))
        self._tasks.append(task)
        return task

    def _drain(self, process: SimRuntime, record: DrainRecord) -> None:
        """Ask until a worker is drained, as an operator does, and end it then."""
        name = record.worker
        for _ in range(DRAIN_ATTEMPTS_LIMIT):
            if self._mended:
                return
            try:
                record.done = self.coordinator.drain(WorkerId(name))
            except (ConflictError, NotKnownError):
                return  # others were faster, or it is gone
            except CacheFSError as error:
                process.note(f"{name} cannot be drained now: {error}")
            if record.done:
                process.note(f"{name} is drained")
                if not self._mended:
                    self.retired.add(name)
                    self.end(name)
                return
            process.sleep(DRAIN_POLL_SECONDS)

    def end(self, name: str) -> None:
        """End a worker in good order, beside everything else."""
        worker = self.workers[name]
        if worker.process is not None and not worker.process.stopped and worker.ready:
            self._tasks.append(self.world.start(f"close {name}", worker.close))
