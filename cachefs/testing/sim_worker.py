"""A worker of a simulated cluster: the real store, filler and knowledge in a process that can die.

What is simulated is only the shell around them: the process's main loop (recover, register, renew),
its data plane, and its disk. The drive outlives the process, so a start after a kill is a recovery.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import cast

from cachefs.config.schema import ClusterConfig, FillConfig, TierConfig
from cachefs.core.membership import EMPTY_VIEW, Member, View
from cachefs.core.names import WorkerId
from cachefs.errors import CapacityError, WorkerUnavailableError
from cachefs.ports import DiskFile, FileRef, ResolvedVersion
from cachefs.testing.disk import SimDisk, SimDrive
from cachefs.testing.network import ServedBlock, SimNetwork
from cachefs.testing.runtime import SimRuntime
from cachefs.testing.sim_coordinator import (
    DATASET,
    TIMEOUT_SECONDS,
    Directory,
    SimChannel,
    SimCoordinator,
    SimMetadata,
)
from cachefs.testing.sim_origin import SimOrigin
from cachefs.transport.control import ControlChannel
from cachefs.workers.filling.filler import Filler
from cachefs.workers.filling.fills import ObtainedBlock
from cachefs.workers.knowledge import Knowledge
from cachefs.workers.proving.proofs import Proofs
from cachefs.workers.proving.prover import Prover
from cachefs.workers.renewal import Renewal
from cachefs.workers.storage.store import TieredStore

TIER_FOLDER = Path("/tier")


@dataclass(frozen=True, slots=True)
class WorkerParts:
    """The classes a worker is built of."""

    store: type[TieredStore] = TieredStore
    filler: type[Filler] = Filler
    prover: type[Prover] = Prover


class SimWorker:
    """A worker, with its process while that runs."""

    def __init__(
        self,
        name: str,
        *,
        world: SimRuntime,
        network: SimNetwork,
        directory: Directory,
        coordinator: SimCoordinator,
        origin: SimOrigin,
        cluster: ClusterConfig,
        fill: FillConfig,
        tier: TierConfig,
        random: Random,
        parts: WorkerParts,
    ) -> None:
        """Own an empty drive; nothing runs yet."""
        self.name = name
        self.address = name
        self.drive = SimDrive(random, capacity_bytes=4 * tier.capacity_bytes)
        self.tier = tier
        self.process: SimRuntime | None = None
        self.filler: Filler | None = None
        self.prover: Prover | None = None
        self.store: TieredStore | None = None
        self.knowledge: Knowledge | None = None
        self.renewal: Renewal | None = None
        self.starts = 0
        self.ready = False
        self.leaving = False
        self._boots = 1
        self._world = world
        self._network = network
        self._directory = directory
        self._coordinator = coordinator
        self._origin = origin
        self._cluster = cluster
        self._fill = fill
        self._parts = parts

    def start(self) -> None:
        """Start a process on the drive as it is."""
        self.starts += 1
        self.ready = self.leaving = False
        self.process = self._world.process(self.name)
        self.process.start("main", self._main)

    def kill(self, *, power: bool = False) -> None:
        """End the process at once; with ``power``, the machine loses what was not synced."""
        process = self.process
        if process is None:
            return
        process.kill()
        if self.ready:
            if power:
                self._network.without_power.add(self.address)
            self._network.close(self.address)
            self._directory.pop(self.address, None)
        self.process = self.filler = self.store = self.knowledge = self.renewal = None
        self.prover = None
        self.ready = False
        if power:
            self._boots += 1
            self.drive.cut_power()

    def close(self) -> None:
        """End the process in good order, from a task that may wait."""
        process = self.process
        if process is None:
            return
        if self.renewal is not None:  # else it has not come up yet
            self.leaving = True
            process.start("close", self._close).join()
        self.kill()

    def _close(self) -> None:
        assert self.renewal is not None
        assert self.filler is not None
        assert self.prover is not None
        assert self.store is not None
        self.renewal.leave()
        self.renewal.close()
        self._network.close(self.address)
        self._directory.pop(self.address, None)
        self.ready = False
        self.prover.close()
        self.filler.close()
        self.store.close()

    def _main(self) -> None:
        process = self.process
        assert process is not None
        store = self._open_store(process)
        members = SimMetadata(
            process,
            self._network,
            self._directory,
            asks_coordinator=False,
            workers=lambda: knowledge.view(deadline=0.0),
        )
        proofs = Proofs(self._cluster)
        knowledge = Knowledge(
            process,
            SimMetadata(process, self._network, self._directory, workers=lambda: EMPTY_VIEW),
            ask_members=lambda name, version, deadline: members.resolve(
                name, version, deadline=deadline
            ),
            proofs=proofs,
        )
        source = self._network.source(process, unproven=True)
        self.store, self.knowledge = store, knowledge
        self.filler = self._parts.filler(
            process,
            store,
            source,
            knowledge,
            lambda _resolved: self._origin.open(process),
            self._fill,
            cluster=self._cluster,
            own=WorkerId(self.name),
        )
        self.prover = self._parts.prover(
            process,
            store,
            self.filler,
            source,
            knowledge,
            config=self._fill,
            cluster=self._cluster,
            own=WorkerId(self.name),
            proofs=proofs,
        )
        self._network.listen(self.address, process, self)
        self._directory[self.address] = self
        self.ready = True
        self.renewal = Renewal(
            process,
            cast("ControlChannel", SimChannel(process, self._network, self._coordinator)),
            self._member(),
            cluster=self._cluster,
            store=store,
            filler=self.filler,
            prover=self.prover,
            knowledge=knowledge,
            statistics=dict,
        )
        self.renewal.start()

    def _open_store(self, process: SimRuntime) -> TieredStore:
        store = self._parts.store(
            [self.tier],
            cluster=self._cluster,
            runtime=process,
            open_disk=lambda _folder: SimDisk(
                self.drive, check_alive=process.check_alive, pause=process.preempt
            ),
            boot_id=f"boot {self._boots}",
        )
        try:
            store.recover()
        except CapacityError as error:
            # The process ends, and whoever supervises it starts another.
            process.note(f"cannot start: {error}")
            self.process = None
            process.kill()
        return store

    def _member(self) -> Member:
        return Member(
            worker=WorkerId(self.name),
            incarnation=f"{self.name}.{self.starts}",
            node=self.name,
            zone="",
            pool="default",
            weight=float(self.tier.capacity_bytes),
            data_address=self.address,
            control_address=self.address,
            socket_path="",
        )

    # What the others ask over the network.

    @contextmanager
    def serve(
        self,
        file: FileRef,
        index: int,
        *,
        only_cached: bool,
        verify: bool,
        unproven: bool,
        deadline: float,
    ) -> Iterator[ServedBlock | None]:
        """Answer a fetch, as the data plane does."""
        assert self.filler is not None
        assert self.prover is not None
        obtained = (self.filler if unproven else self.prover).obtain(
            file, index, only_cached=only_cached, verify=verify, deadline=deadline
        )
        if obtained is None:
            yield None
            return
        with obtained:
            yield _Served(obtained, index * self._cluster.block_size)

    def prove(self, file: FileRef, *, only_cached: bool, deadline: float) -> bytes | None:
        """Answer another worker that wants a proof, as the data plane does."""
        assert self.prover is not None
        if only_cached:
            proof = self.prover.known(file)
        else:
            proof = self.prover.prove(file, deadline=deadline)
        return b"".join(proof) if proof is not None else None

    def warm(self, job: str, wanted: Mapping[FileRef, list[int]]) -> None:
        """Begin a warm-up, as the control server does."""
        assert self.filler is not None
        assert self.prover is not None
        self.filler.warm(job, wanted)
        self.prover.begin(file for file, blocks in wanted.items() if 0 in blocks)

    def known_view(self) -> View:
        """Return the view as of the last renewal."""
        assert self.knowledge is not None
        return self.knowledge.view(deadline=0.0)

    def known_version(self, version: str | None) -> ResolvedVersion:
        """Return a version from what is known here."""
        assert self.knowledge is not None
        assert self.process is not None
        return self.knowledge.resolve_here(
            DATASET, version, deadline=self.process.monotonic() + TIMEOUT_SECONDS
        )

    def known_digests(self, file: FileRef) -> list[bytes | None]:
        """Return digests from what is known here."""
        assert self.knowledge is not None
        assert self.process is not None
        deadline = self.process.monotonic() + TIMEOUT_SECONDS
        return list(self.knowledge.digests(file, deadline=deadline))


class _Served:
    """A block that the filler has obtained, as the data plane sends it."""

    def __init__(self, obtained: ObtainedBlock, start: int) -> None:
        self.digest = obtained.digest
        self.source = obtained.source
        self._file: DiskFile | None = obtained.held.file if obtained.held is not None else None
        self._data = obtained.view() if self._file is None else None
        self._start = start

    def read_into(self, into: memoryview, offset: int) -> None:
        """Copy bytes out of the tier's file, or out of memory."""
        if self._data is not None:
            into[:] = self._data[offset : offset + len(into)]
            return
        assert self._file is not None
        try:
            count = self._file.pread_into(into, self._start + offset)
        except OSError as error:
            raise WorkerUnavailableError("connection reset: its disk failed") from error
        if count < len(into):
            raise WorkerUnavailableError("connection reset: its file is short")
